package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"belay/internal/admin/adminapi"
)

// shows collects what a viewer shows.
type shows struct {
	seconds []float64
	notes   []string
}

func (s *shows) out(l *load, note string) error {
	s.seconds = append(s.seconds, l.Seconds)
	s.notes = append(s.notes, note)
	return nil
}

func TestViewerCounts(t *testing.T) {
	old, now := twoSamples()
	for _, tt := range []struct {
		name  string
		live  bool
		times int
		want  string // the intervals shown
	}{
		{"script, one look", false, 1, "[2]"},
		{"script, two looks", false, 2, "[2 2]"},
		{"live, the first sample too", true, 1, "[0 2]"},
	} {
		looks := make(chan looked, 3)
		looks <- looked{sample: old}
		looks <- looked{sample: now}
		third := now
		third.at = now.at.Add(2 * time.Second)
		looks <- looked{sample: third}
		var s shows
		v := &viewer{live: tt.live, times: tt.times, out: s.out}
		if err := v.run(t.Context(), looks); err != nil || fmt.Sprint(s.seconds) != tt.want {
			t.Errorf("%s: %v, %v", tt.name, s.seconds, err)
		}
	}
}

func TestViewerEnds(t *testing.T) {
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, tt := range []struct {
		name string
		ctx  context.Context
		keys string
	}{
		{"q", t.Context(), "xq"},
		{"Q", t.Context(), "\x1b[AQ"},
		{"Ctrl-C", t.Context(), "\x03"},
		{"context", ended, ""},
	} {
		v := &viewer{live: true, keys: readKeys(strings.NewReader(tt.keys))}
		if tt.keys == "" {
			v.keys = nil
		}
		if err := v.run(tt.ctx, nil); err != nil {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestViewerErrors(t *testing.T) {
	_, now := twoSamples()
	lost := errors.New("lost")
	run := func(live bool, looks ...looked) ([]string, error) {
		c := make(chan looked, len(looks))
		for _, l := range looks {
			c <- l
		}
		var s shows
		v := &viewer{live: live, times: 1, out: s.out}
		err := v.run(t.Context(), c)
		return s.notes, err
	}
	later := now
	later.at = now.at.Add(time.Second)
	if _, err := run(false, looked{sample: now}, looked{err: lost}); err != lost {
		t.Errorf("script: %v", err)
	}
	if _, err := run(true, looked{err: lost}); err != lost {
		t.Errorf("live, at once: %v", err)
	}
	notes, err := run(true, looked{sample: now}, looked{err: lost}, looked{sample: later})
	if err != nil || fmt.Sprintf("%q", notes) != `["" "belayctl: lost" ""]` {
		t.Errorf("live, later: %q, %v", notes, err)
	}
}

func TestViewerRedrawsAtResize(t *testing.T) {
	_, now := twoSamples()
	looks := make(chan looked)
	resized := make(chan os.Signal)
	keys := make(chan byte)
	var s shows
	v := &viewer{live: true, out: s.out, resized: resized, keys: keys}
	done := make(chan error)
	go func() { done <- v.run(t.Context(), looks) }()
	resized <- unix.SIGWINCH // before there is anything to draw
	looks <- looked{sample: now}
	resized <- unix.SIGWINCH
	close(keys) // the keyboard is gone; that ends nothing
	resized <- unix.SIGWINCH
	looks <- looked{err: context.Canceled}
	select {
	case err := <-done:
		t.Fatalf("ended: %v", err)
	default:
	}
	if len(s.seconds) != 3 {
		t.Errorf("drawn %d times", len(s.seconds))
	}
}

func TestTopOnce(t *testing.T) {
	socket := aDaemon().serve(t)
	status, stdout, stderr := belayctl(t, socket, "top", "--once", "--interval", "100ms", "--json")
	var l load
	if err := json.Unmarshal([]byte(stdout), &l); status != exitOK || stderr != "" || err != nil {
		t.Fatalf("status %d, %q, %q, %v", status, stdout, stderr, err)
	}
	if strings.Count(stdout, "\n") != 1 || l.Seconds < 0.05 || len(l.Endpoints) != 9 || l.Endpoints[0].RequestRate != 0 || l.PID != 4711 {
		t.Errorf("%s", stdout)
	}
	status, stdout, _ = belayctl(t, socket, "top", "-n", "2", "-i", "100ms")
	if status != exitOK || strings.Count(stdout, "LISTENER") != 2 || strings.Contains(stdout, "\x1b") {
		t.Errorf("status %d, %q", status, stdout)
	}
}

// openPTY makes a terminal of 24 lines; the caller closes both ends.
func openPTY(t *testing.T) (master, slave *os.File) {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		slave, err = os.OpenFile(fmt.Sprintf("/dev/pts/%d", n), os.O_RDWR|unix.O_NOCTTY, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 60})
	}
	if err != nil {
		t.Skipf("no terminals here: %v", err)
	}
	return master, slave
}

func TestTopOnTerminal(t *testing.T) {
	t.Setenv("TERM", "xterm")
	master, slave := openPTY(t)
	defer slave.Close()
	defer master.Close()
	before, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	d := aDaemon()
	d.clusters[0].Name = strings.Repeat("long", 30)
	p := &program{stdin: slave, stdout: slave, stderr: io.Discard, socket: d.serve(t)}
	ended := make(chan int)
	go func() { ended <- p.run(t.Context(), []string{"top", "-i", "100ms"}) }()

	screen := bufio.NewReader(master)
	first, err := screen.ReadString('J') // to the end of the first frame
	if err != nil {
		t.Fatal(err)
	}
	second, err := screen.ReadString('J')
	if err != nil {
		t.Fatal(err)
	}
	if _, err := master.WriteString("q"); err != nil {
		t.Fatal(err)
	}
	if status := <-ended; status != exitOK {
		t.Errorf("status %d", status)
	}
	after, err := unix.IoctlGetTermios(int(slave.Fd()), unix.TCGETS)
	if err != nil || *after != *before {
		t.Errorf("terminal is not as it was: %+v, %+v, %v", before, after, err)
	}
	fmt.Fprint(slave, "end~")
	rest, err := screen.ReadString('~')
	if err != nil || !strings.HasSuffix(rest, leaveScreen+"end~") {
		t.Errorf("screen not given back: %q, %v", rest, err)
	}
	if !strings.HasPrefix(first, enterScreen+home) || !strings.HasPrefix(second, home) || !strings.Contains(second, "requests/s") {
		t.Errorf("%q\n%q", first, second)
	}
	for _, line := range strings.Split(second, "\r\n") {
		line = strings.NewReplacer(home, "", eraseLine, "", eraseBelow, "").Replace(line)
		if n := len([]rune(line)); n > 60 {
			t.Errorf("%d columns: %q", n, line)
		}
	}
}

func TestTopOnDumbTerminal(t *testing.T) {
	t.Setenv("TERM", "dumb")
	_, slave := openPTY(t)
	defer slave.Close()
	if term := openTerminal(slave, slave); term != nil {
		t.Error("taken over")
	}
}

func TestLookEndsWithItsContext(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	taken := make(chan struct{}, 10)
	looks := look(ctx, time.Hour, func() (sample, error) {
		taken <- struct{}{}
		return sample{status: adminapi.Status{PID: 1}}, nil
	})
	if l := <-looks; l.sample.status.PID != 1 || l.err != nil {
		t.Errorf("%+v", l)
	}
	cancel()
	<-taken
	select {
	case <-taken:
		t.Error("a second look within an hour")
	default:
	}
}
