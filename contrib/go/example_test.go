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

// In a test: a corpus that all tests read, and a server that this one may ruin.
func Example() {
	t := &testing.T{} // that of the test
	corpus := fixd.Get(t, "corpus").Bytes()
	server := fixd.Own(t, "own").String()
	fmt.Println(len(corpus) > 0, server != "")
	// Output: true true
}

// In TestMain: a server that is there before the first test, for as long as the test binary runs.
func ExampleHold() {
	server, err := fixd.Hold("server")
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	os.Setenv("SERVER", server.String()) // and then os.Exit(m.Run())
	fmt.Println(os.Getenv("SERVER")[:3])
	// Output: at
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
	// Output:
	// apple
	// banana
	// cherry
}

// What a test writes to a private view is undone by Reset, for the price of the pages that it has touched.
func ExampleView_Reset() {
	t := &testing.T{} // that of the test
	v := fixd.Own(t, "corpus", fixd.Private())
	v.Bytes()[0] = 'A'
	if err := v.Reset(); err != nil {
		t.Fatal(err)
	}
	fmt.Printf("%c\n", v.Bytes()[0])
	// Output: a
}
