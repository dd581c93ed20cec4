// Command load makes load that counts (see package traffic) or is its backend:
//
//	load run '{"Targets":{"web":"127.0.0.1:80"},"KeepAlive":10}'
//	load backend ADDRESS…
//
// It writes one line of JSON when it is under way, one for every line "totals"
// on its standard input, and the last one when it gets a line "stop" or SIGTERM:
// a traffic.Result or, of a backend, a traffic.Seen. The options of a run are a
// traffic.Options.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"belay/test/box/traffic"
)

func main() {
	if err := run(os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "load:", err)
		os.Exit(1)
	}
}

func run(args []string) error {
	if len(args) < 2 {
		return fmt.Errorf("usage: load run OPTIONS | load backend ADDRESS…")
	}
	switch args[0] {
	case "run":
		var o traffic.Options
		in := json.NewDecoder(strings.NewReader(args[1]))
		in.DisallowUnknownFields()
		if err := in.Decode(&o); err != nil {
			return fmt.Errorf("options: %w", err)
		}
		r, err := traffic.Start(o)
		if err != nil {
			return err
		}
		return serve(r.Ready(), func() any { return r.Totals() }, func() any { return r.Stop() })
	case "backend":
		b, err := traffic.StartBackend(args[1:]...)
		if err != nil {
			return err
		}
		ready := make(chan struct{})
		close(ready)
		return serve(ready, func() any { return b.Seen() }, func() any { return b.Seen() })
	}
	return fmt.Errorf("unknown command %q", args[0])
}

// serve says totals when asked to and the last ones at the end.
func serve(ready <-chan struct{}, totals, last func() any) error {
	out := json.NewEncoder(os.Stdout)
	term := make(chan os.Signal, 1)
	signal.Notify(term, syscall.SIGTERM, syscall.SIGINT)
	commands := make(chan string)
	go func() {
		in := bufio.NewScanner(os.Stdin)
		for in.Scan() {
			commands <- in.Text()
		}
		// The end of the input is not the end of the load: a shell may have started it.
	}()
	for {
		var err error
		select {
		case <-ready:
			ready = nil
			err = out.Encode(totals())
		case <-term:
			return out.Encode(last())
		case c := <-commands:
			switch c {
			case "totals":
				err = out.Encode(totals())
			case "stop":
				return out.Encode(last())
			default:
				fmt.Fprintf(os.Stderr, "load: unknown command %q\n", c)
			}
		}
		if err != nil {
			return err
		}
	}
}
