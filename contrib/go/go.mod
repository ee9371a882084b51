module fixd

go 1.19
