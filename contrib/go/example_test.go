// SPDX-License-Identifier: MIT

package fixd_test

import (
	"context"
	"fmt"
	"os"
	"testing"
	"time"

	"fixd"
)

// In a test file: a corpus that all tests read, and a server that this one may ruin.
func Example() {
	TestLookup := func(t *testing.T) {
		corpus := fixd.Get(t, "corpus").Bytes()
		server := fixd.Own(t, "own").String()
		if len(corpus) == 0 || server == "" {
			t.Fail()
		}
	}
	_ = TestLookup
}

// Without package testing, and with a limit on the wait.
func ExampleConn_Attach() {
	c, err := fixd.Open("")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	v, err := c.Attach(ctx, "corpus")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer v.Detach()
	os.Stdout.Write(v.Bytes())
}

// What a test writes to a private view is undone by Reset, for the price of the pages that it has touched.
func ExampleView_Reset() {
	t := &testing.T{} // that of the test
	v := fixd.Own(t, "corpus", fixd.Private())
	v.Bytes()[0] = 'A'
	if err := v.Reset(); err != nil {
		t.Fatal(err)
	}
}
