package main

import (
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"time"

	"belay/internal/admin/adminapi"
)

func TestRestartStatusOutput(t *testing.T) {
	for name, change := range map[string]func(*adminapi.RestartStatus){
		"restart-status-off": func(s *adminapi.RestartStatus) { *s = adminapi.RestartStatus{} },
		"restart-status-fresh": func(s *adminapi.RestartStatus) {
			s.Phase, s.Since, s.LastRestart, s.Restarts, s.Store = "serving", s.OriginalStart, nil, adminapi.Restarts{}, adminapi.Store{}
			s.Generations = s.Generations[2:]
		},
		"restart-status-rolled-back": func(s *adminapi.RestartStatus) {
			s.Phase, s.Since = "serving", time.Time{}
			l := s.LastRestart
			l.Result, l.Reason, l.Took, l.Cut = adminapi.ResultRolledBack, "the new process hung in probation\x1b[2J", 0.82, 17
			s.Store = adminapi.Store{Refused: true}
			s.Restarts.RolledBack = 1
		},
	} {
		d := aDaemon()
		change(&d.restart)
		status, stdout, stderr := belayctl(t, d.serve(t), "restart-status")
		if status != exitOK || stderr != "" {
			t.Errorf("%s: status %d, stderr %q", name, status, stderr)
		}
		golden(t, name, stdout)
	}
}

func TestDrainAsks(t *testing.T) {
	for args, want := range map[string]string{
		"drain":        "POST",
		"drain --undo": "DELETE",
	} {
		d := aDaemon()
		if status, _, stderr := belayctl(t, d.serve(t), strings.Fields(args)...); status != exitOK || stderr != "" {
			t.Errorf("%s: status %d, stderr %q", args, status, stderr)
		}
		if got := strings.Join(d.asked(), " "); got != want {
			t.Errorf("%s: %s, want %s", args, got, want)
		}
	}
}

func TestDrainThatIsRefused(t *testing.T) {
	d := &daemon{refuse: "it is stopping"}
	if status, stdout, stderr := belayctl(t, d.serve(t), "drain", "--wait"); status != exitNo || stdout != "" || stderr != "belayctl: it is stopping\n" {
		t.Errorf("status %d, %q, %q", status, stdout, stderr)
	}
}

// oneLess ends a connection at every look.
func oneLess(d *daemon) { d.drain.Connections-- }

func TestDrainWaits(t *testing.T) {
	const head = "draining: 3 connections are open\nto undo it: belayctl drain --undo\n"
	for _, tt := range []struct {
		name, args string
		open       int64
		onStatus   func(*daemon)
		status     int
		out, err   string
		looks      int // at least
	}{
		{"none open", "drain --wait", 0, nil, exitOK, "draining: no connection is open\nto undo it: belayctl drain --undo\n", "", 0},
		{"they end", "drain --wait", 3, oneLess, exitOK, head + "no connection is open\n", "", 3},
		{"they end in time", "drain --wait=10m", 3, oneLess, exitOK, head + "no connection is open\n", "", 3},
		{"they do not end in time", "drain --wait=20ms", 3, nil, exitNo, head, "belayctl: 3 connections are still open after 20ms\n", 0},
		{
			"undone", "drain --wait", 3, func(d *daemon) { d.drain.Draining = false }, exitNo, head,
			"belayctl: belayd no longer drains: somebody undid it, or another process took over\n", 1,
		},
	} {
		d := aDaemon()
		d.drain.Connections, d.onStatus = tt.open, tt.onStatus
		status, stdout, stderr := belayctl(t, d.serve(t), strings.Fields(tt.args)...)
		if status != tt.status || stdout != tt.out || stderr != tt.err {
			t.Errorf("%s: status %d, %q, %q\nwant %d, %q, %q", tt.name, status, stdout, stderr, tt.status, tt.out, tt.err)
		}
		asked := d.asked()
		changes := slices.DeleteFunc(slices.Clone(asked), func(m string) bool { return m == "GET" })
		if asked[0] != "POST" || len(changes) != 1 || len(asked) < 1+tt.looks {
			t.Errorf("%s: asked %q", tt.name, asked)
		}
	}
}

func TestDrainWaitsInJSON(t *testing.T) {
	d := aDaemon()
	d.drain.Connections, d.onStatus = 2, oneLess
	status, stdout, stderr := belayctl(t, d.serve(t), "drain", "--wait", "--json")
	var got adminapi.DrainStatus
	if err := json.Unmarshal([]byte(stdout), &got); err != nil || status != exitOK || stderr != "" || got != (adminapi.DrainStatus{Draining: true}) {
		t.Errorf("status %d, %q, %q: %v", status, stdout, stderr, err)
	}
}

// TestInterruptedDrain: Ctrl-C ends the wait, not the draining.
func TestInterruptedDrain(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	d := aDaemon()
	d.onStatus = func(*daemon) { cancel() }
	var out, errs strings.Builder
	p := &program{stdout: &out, stderr: &errs, socket: d.serve(t), poll: time.Millisecond}
	if status := p.run(ctx, []string{"drain", "--wait"}); status != exitNo || errs.String() != "" {
		t.Errorf("status %d, %q", status, errs.String())
	}
	if asked := d.asked(); slices.Contains(asked, "DELETE") {
		t.Errorf("asked %q", asked)
	}
}
