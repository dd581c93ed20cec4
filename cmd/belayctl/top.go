package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"belay/internal/admin/adminapi"
)

// minInterval keeps top from being a load of its own.
const minInterval = 100 * time.Millisecond

func (p *program) topCommand() *cobra.Command {
	var (
		interval time.Duration
		times    int
		once     bool
	)
	c := &cobra.Command{
		Use:   "top",
		Short: "Show rates and times live; q ends it",
		Long: "Show what happens now, every second: rates, and the median and 99th percentile of the times within\n" +
			"that second. On a terminal the screen is kept up to date until q or Ctrl-C; elsewhere every look\n" +
			"is printed below the last, as JSON one line each.",
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			if once {
				times = 1
			}
			if interval < minInterval || times < 0 {
				return usageError{fmt.Errorf("--interval must be %v or more, --count 0 or more", minInterval)}
			}
			return p.top(c.Context(), interval, times)
		},
	}
	c.Flags().DurationVarP(&interval, "interval", "i", time.Second, "time between two looks")
	c.Flags().IntVarP(&times, "count", "n", 0, "end after this many looks; 0: never")
	c.Flags().BoolVar(&once, "once", false, "look once, for scripts: the same as --count 1")
	c.MarkFlagsMutuallyExclusive("once", "count")
	return c
}

// top runs the live view.
func (p *program) top(ctx context.Context, interval time.Duration, times int) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	client := adminapi.NewClient(p.socket)
	defer client.Close()
	looks := look(ctx, interval, func() (sample, error) {
		ctx, cancel := context.WithTimeout(ctx, p.timeout)
		defer cancel()
		return take(ctx, client)
	})
	v := &viewer{out: p.plain, times: times}
	if term := openTerminal(p.stdin, p.stdout); term != nil && !p.json {
		defer term.close()
		resized := make(chan os.Signal, 1)
		signal.Notify(resized, syscall.SIGWINCH)
		defer signal.Stop(resized)
		v.live, v.out, v.keys, v.resized = true, term.show, term.keys, resized
	}
	return v.run(ctx, looks)
}

// plain prints a load where there is no terminal.
func (p *program) plain(l *load, note string) error {
	if p.json {
		return json.NewEncoder(p.stdout).Encode(l)
	}
	_, err := io.WriteString(p.stdout, strings.Join(frame(l, 0, note), "\n")+"\n")
	return err
}

// looked is a sample, or why there is none.
type looked struct {
	sample sample
	err    error
}

// look takes a sample now and then every interval, until ctx ends.
func look(ctx context.Context, interval time.Duration, take func() (sample, error)) <-chan looked {
	c := make(chan looked)
	go func() {
		tick := time.NewTicker(interval)
		defer tick.Stop()
		for {
			s, err := take()
			select {
			case c <- looked{s, err}:
			case <-ctx.Done():
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
		}
	}()
	return c
}

// viewer shows loads until it has shown enough or is told to stop. Nothing but
// run touches it.
type viewer struct {
	live    bool // errors are shown and waited out; the first sample is shown as well
	times   int  // loads to show; 0: no end
	out     func(*load, string) error
	keys    <-chan byte      // nil: none
	resized <-chan os.Signal // nil: none

	last    *sample
	current *load
	shown   int
}

// The keys that end top. In raw mode Ctrl-C is a key as well.
const (
	keyQuit  = 'q'
	keyCtrlC = 3
)

// run is the one loop: samples, keys, and changes of the size.
func (v *viewer) run(ctx context.Context, looks <-chan looked) error {
	for {
		var err error
		select {
		case <-ctx.Done():
			return nil
		case k, ok := <-v.keys:
			if !ok {
				v.keys = nil
			}
			if k == keyQuit || k == keyQuit-'a'+'A' || k == keyCtrlC {
				return nil
			}
		case <-v.resized:
			if v.current != nil {
				err = v.out(v.current, "")
			}
		case l := <-looks:
			err = v.look(l)
		}
		if err != nil || v.times > 0 && v.shown == v.times {
			return err
		}
	}
}

// look shows what a sample brought.
func (v *viewer) look(l looked) error {
	switch {
	case l.err != nil && errors.Is(l.err, context.Canceled):
		return nil // run sees it
	case l.err != nil && (!v.live || v.last == nil):
		return l.err
	case l.err != nil:
		return v.out(v.current, printable("belayctl: "+l.err.Error()))
	}
	old := v.last
	v.last = &l.sample
	if old == nil {
		now := between(v.last, v.last)
		v.current = &now
		if !v.live {
			return nil
		}
		return v.out(v.current, "")
	}
	now := between(old, v.last)
	v.current = &now
	v.shown++
	return v.out(v.current, "")
}
