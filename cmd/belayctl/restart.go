package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"belay/internal/admin/adminapi"
)

func (p *program) restartStatusCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "restart-status",
		Short:             "Show the processes of hot restart and how the last one went",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := ask(c.Context(), p, (*adminapi.Client).RestartStatus)
			if err != nil {
				return err
			}
			return p.print(s, func(w io.Writer) error { return writeRestartStatus(w, &s) })
		},
	}
}

// drainPoll is the time between two questions of drain --wait.
const drainPoll = 500 * time.Millisecond

func (p *program) drainCommand() *cobra.Command {
	var (
		undo  bool
		limit time.Duration
	)
	c := &cobra.Command{
		Use:   "drain",
		Short: "Have connections end and be not ready, for a balancer",
		Long: "Have belayd drain: /ready says no, so that a balancer sends it no more clients, and every reply\n" +
			"announces the end of its connection. Whoever comes all the same is served as before.",
		Example: `  belayctl drain --wait=5m
  belayctl drain --undo`,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			wait := c.Flags().Changed("wait")
			switch {
			case wait && undo:
				return usageError{errors.New("--undo has nothing to --wait for")}
			case limit < 0:
				return usageError{errors.New("--wait must be 0 or more")}
			}
			s, err := ask(c.Context(), p, func(a *adminapi.Client, ctx context.Context) (adminapi.DrainStatus, error) {
				return a.Drain(ctx, !undo)
			})
			if err != nil || !wait {
				return p.printDrain(&s, err)
			}
			return p.waitDrained(c.Context(), &s, limit)
		},
	}
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 0 && c.Flags().Changed("wait") {
			return fmt.Errorf("unexpected argument %q: write --wait=TIME with an equals sign", args[0])
		}
		return cobra.NoArgs(c, args)
	}
	c.Flags().BoolVar(&undo, "undo", false, "be ready again and keep connections")
	c.Flags().DurationVar(&limit, "wait", 0, "wait until no connection is open, or for this `TIME`; 0: without end")
	c.Flags().Lookup("wait").NoOptDefVal = "0s"
	return c
}

func (p *program) printDrain(s *adminapi.DrainStatus, err error) error {
	if err != nil {
		return err
	}
	return p.print(s, func(w io.Writer) error { return writeDrain(w, s) })
}

// waitDrained waits until no connection is open; a limit of 0 is none.
func (p *program) waitDrained(ctx context.Context, s *adminapi.DrainStatus, limit time.Duration) error {
	if !p.json {
		if err := writeDrain(p.stdout, s); err != nil || s.Connections == 0 {
			return err
		}
	}
	waiting := ctx
	if limit > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	tick := time.NewTicker(p.poll)
	defer tick.Stop()
	for s.Connections > 0 {
		select {
		case <-tick.C:
		case <-waiting.Done():
		}
		now, err := ask(waiting, p, (*adminapi.Client).DrainStatus)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case waiting.Err() != nil:
			return fmt.Errorf("%s after %v", connections(s.Connections, "still open"), limit)
		case err != nil:
			return err
		case !now.Draining:
			return errors.New("belayd no longer drains: somebody undid it, or another process took over")
		}
		*s = now
	}
	if p.json {
		return p.print(s, nil)
	}
	_, err := fmt.Fprintln(p.stdout, connections(0, "open"))
	return err
}

func writeDrain(w io.Writer, s *adminapi.DrainStatus) error {
	text := "serving: " + connections(s.Connections, "open") + "\n"
	if s.Draining {
		text = "draining: " + connections(s.Connections, "open") + "\nto undo it: belayctl drain --undo\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// connections says what n connections are.
func connections(n int64, what string) string {
	switch n {
	case 0:
		return "no connection is " + what
	case 1:
		return "1 connection is " + what
	}
	return fmt.Sprintf("%d connections are %s", n, what)
}

func writeRestartStatus(w io.Writer, s *adminapi.RestartStatus) error {
	if !s.Enabled {
		return facts{{"hot restart", "off"}, {"store", storeText(&s.Store)}}.write(w)
	}
	phase := s.Phase
	if !s.Since.IsZero() {
		phase += " for " + age(s.Time.Sub(s.Since))
	}
	f := facts{
		{"epoch", fmt.Sprint(s.Epoch)},
		{"phase", phase},
		{"first start", ago(s, s.OriginalStart)},
	}
	if l := s.LastRestart; l != nil {
		f = append(f, [2]string{"last restart", fmt.Sprintf("%s, to epoch %d: %s", ago(s, l.At), l.Epoch, l.Result)})
		if l.Reason != "" {
			f = append(f, [2]string{"reason", l.Reason})
		}
		f = append(f, [2]string{"took", fmt.Sprintf("%s, %s connections cut", latency(l.Took, 1), count(l.Cut))})
	}
	r := &s.Restarts
	f = append(f, facts{
		{"restarts", fmt.Sprintf("%s ok, %s failed, %s rolled back", count(r.OK), count(r.Failed), count(r.RolledBack))},
		{"protocol", fmt.Sprintf("%d to %d", s.Protocol.Min, s.Protocol.Max)},
		{"segment", fmt.Sprintf("%s, version %d", s.Segment.Path, s.Segment.Version)},
		{"store", storeText(&s.Store)},
	}...)
	if err := f.write(w); err != nil {
		return err
	}
	fmt.Fprintln(w)
	return writeGenerations(w, s)
}

func writeGenerations(w io.Writer, s *adminapi.RestartStatus) error {
	t := newSheet(">EPOCH", ">PID", "VERSION", "STATE", "MAIN", ">CONNS", ">DRAINING", ">LEFT", ">HEARTBEAT")
	for i := range s.Generations {
		g := &s.Generations[i]
		version, main, draining, left := g.Version, none, none, none
		if version == "" {
			version = none
		}
		if g.Main {
			main = "yes"
		}
		if !g.DrainingSince.IsZero() {
			draining = age(s.Time.Sub(g.DrainingSince))
			left = age(time.Duration(g.TimeLeft * float64(time.Second)))
		}
		t.add(fmt.Sprint(g.Epoch), fmt.Sprint(g.PID), version, g.State, main, count(g.Connections), draining, left, latency(g.HeartbeatAge, 1))
	}
	return t.write(w)
}

// ago writes when something was.
func ago(s *adminapi.RestartStatus, t time.Time) string {
	return fmt.Sprintf("%s (%s ago)", t.Format(time.RFC3339), age(s.Time.Sub(t)))
}

func storeText(s *adminapi.Store) string {
	switch {
	case s.Refused:
		return "refused by the service manager"
	case s.Sockets == 0:
		return "not used"
	case s.Sockets == 1:
		return "1 socket"
	}
	return fmt.Sprintf("%d sockets", s.Sockets)
}
