package test

import (
	"encoding/base64"
	"fmt"
	"os"
	"strings"
	"syscall"
	"testing"

	"belay/test/harness"
)

// secret is a key's secret in a keyring, made of one letter.
func secret(letter byte) string {
	return base64.StdEncoding.EncodeToString([]byte(strings.Repeat(string(letter), 32)))
}

// sharedKeyring has a shop use a keyring file and returns the file's path.
func (s *shop) sharedKeyring(lines ...string) string {
	s.t.Helper()
	path := harness.TempDir(s.t) + "/keyring"
	writeKeyring(s.t, path, lines...)
	s.keys = fmt.Sprintf("keyring = %q", path)
	return path
}

func writeKeyring(t *testing.T, path string, lines ...string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(strings.Join(lines, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
}

// second is a belay on another machine: started later, with the same servers.
func (s *shop) second() *shop {
	o := *s
	o.bind, o.d, o.pid = harness.Addr(s.t), nil, 0
	return &o
}

// Machines with one keyring keep each other's sessions, whenever they were started;
// machines without do not, and say why.
func TestPersistTwoMachines(t *testing.T) {
	t.Parallel()
	one, alone := newShop(t, 3), newShop(t, 3)
	one.sharedKeyring("mint 7 " + secret('k'))
	one.open()
	sessions := map[string]*harness.Browser{}
	for id := range one.apps {
		sessions[id] = one.pinned(id)
	}
	two := one.second().open()
	for id, b := range sessions {
		b.Addr = two.bind
		two.stays(b, id)
		two.told(b, "valid", "kept")
		b.Addr = one.bind
		one.stays(b, id)
	}

	alone.open()
	other := alone.second()
	other.keys = fmt.Sprintf("directory = %q", harness.TempDir(t))
	other.open()
	for range 3 {
		b := alone.pinned("e0")
		b.Addr = other.bind
		a := b.MustGet(t, newPath())
		if len(a.Cookies("SRV")) != 1 {
			t.Error("a token of other keys is taken")
		}
	}
	harness.Eventually(t, patience, "the log to say so of 3 requests", func() bool {
		n := 0
		for _, r := range other.d.Records() {
			if v := r.Str("persistence"); v == "invalid" || v == "unknown-key" {
				n++
			}
		}
		return n == 3
	})
	// Of a key that it does not have, it says that.
	one.told(one.withCookie(alone.pinned("e0").Cookie("SRV")), "unknown-key", "minted")
}

// withCookie is a browser that has a value from somewhere.
func (s *shop) withCookie(v string) *harness.Browser {
	b := s.browser()
	b.Jar = []string{"SRV=" + v}
	return b
}

// Keys are rotated by hand over hot restarts: accepted, promoted, dropped. No step
// moves a session, and the one that is not seen until its key is dropped begins
// again, for a reason that the log tells.
func TestPersistKeyRotation(t *testing.T) {
	t.Parallel()
	s := newShop(t, 4)
	path := s.sharedKeyring("mint 1 " + secret('a'))
	s.open()
	b, asleep := s.pinned("e1"), s.pinned("e2")
	first := b.Cookie("SRV")

	writeKeyring(t, path, "mint 1 "+secret('a'), "accept 2 "+secret('b'))
	s.restart()
	s.told(b, "valid", "kept")
	s.stays(b, "e1")

	writeKeyring(t, path, "old 1 "+secret('a'), "mint 2 "+secret('b'))
	s.restart()
	a := s.told(b, "old-key", "refreshed")
	if a.Backend() != "e1" || value(one(t, a, "SRV")) == first {
		t.Errorf("on %s with %q", a.Backend(), a.Cookies("SRV"))
	}
	s.told(b, "valid", "kept")
	s.stays(b, "e1")

	writeKeyring(t, path, "mint 2 "+secret('b'))
	s.restart()
	s.told(b, "valid", "kept")
	s.stays(b, "e1")
	one(t, s.told(asleep, "unknown-key", "minted"), "SRV")

	// Another secret under a known id: what it sealed is not ours.
	writeKeyring(t, path, "mint 2 "+secret('c'))
	s.restart()
	one(t, s.told(b, "invalid", "minted"), "SRV")
}

// A keyring that cannot be used is told before anything is served, without a
// word of its secrets.
func TestPersistBadKeyring(t *testing.T) {
	t.Parallel()
	for name, lines := range map[string][]string{
		"no key mints":     {"old 1 " + secret('a')},
		"two keys mint":    {"mint 1 " + secret('a'), "mint 2 " + secret('b')},
		"two of one id":    {"mint 1 " + secret('a'), "old 1 " + secret('b')},
		"a short secret":   {"mint 1 " + secret('a')[:20]},
		"an unknown state": {"use 1 " + secret('a')},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newShop(t, 1)
			path := s.sharedKeyring(lines...)
			d := harness.Launch(t, s.config(), harness.Options{Errors: true})
			if code := d.Wait(patience); code == 0 {
				t.Error("it was served")
			}
			want(t, d.Stderr(), path)
			wantNot(t, d.Stderr(), secret('a'), secret('a')[:20], secret('b'))
		})
	}
}

// stop ends belay with SIGTERM, kill with SIGKILL, be it the first process or one
// that came by a hot restart.
func (s *shop) stop(sig syscall.Signal) {
	s.t.Helper()
	if s.old != 0 {
		gone(s.t, s.old) // it passes on what it has counted, and lets go of the listener
	}
	if err := syscall.Kill(s.pid, sig); err != nil {
		s.t.Fatal(err)
	}
	gone(s.t, s.pid)
	if s.pid == s.d.PID() {
		s.d.Wait(patience)
	}
}

// gone waits until a process has ended with all of its threads, each of which keeps
// the listener's address taken.
func gone(t *testing.T, pid int) {
	t.Helper()
	ended(t, pid)
	harness.Eventually(t, patience, "the threads to end", func() bool {
		tasks, err := os.ReadDir(fmt.Sprintf("/proc/%d/task", pid))
		return err != nil || len(tasks) <= 1
	})
}

func (s *shop) again() {
	s.t.Helper()
	s.d = s.d.Rerun()
	s.pid = s.d.PID()
}

// With a state directory, a session outlives whatever ends the process.
func TestPersistKeysAreKept(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3)
	state := harness.TempDir(t)
	s.keys = ""
	s.open(harness.Options{Env: []string{"STATE_DIRECTORY=" + state}})
	st, err := os.Stat(state + "/persistence.keys")
	if err != nil || st.Mode().Perm() != 0o600 {
		t.Fatalf("the keys' file: %v, %v", st, err)
	}
	before, err := os.ReadFile(state + "/persistence.keys")
	if err != nil {
		t.Fatal(err)
	}
	sessions := map[string]*harness.Browser{}
	for id := range s.apps {
		sessions[id] = s.pinned(id)
	}
	for _, end := range []struct {
		name string
		do   func()
	}{
		{"stop and start", func() { s.stop(syscall.SIGTERM); s.again() }},
		{"kill -9 and start", func() { s.stop(syscall.SIGKILL); s.again() }},
		{"hot restart", s.restart},
		{"kill -9 of the process of a hot restart", func() { s.restart(); s.stop(syscall.SIGKILL); s.again() }},
	} {
		end.do()
		for id, b := range sessions {
			a := s.visit(b)
			if a.Backend() != id || len(a.Cookies("SRV")) != 0 {
				t.Errorf("%s: a session of %s is on %s", end.name, id, a.Backend())
			}
		}
	}
	if after, err := os.ReadFile(state + "/persistence.keys"); err != nil || string(after) != string(before) {
		t.Errorf("the keys' file has changed: %v", err)
	}
	left, err := os.ReadDir(state)
	if err != nil || len(left) != 1 {
		t.Errorf("in the state directory: %v, %v", left, err)
	}
	wantNot(t, s.d.Stderr(), "in memory only")
}

// Without a state directory the keys are in memory: a hot restart hands them over,
// a stop loses them, and a warning says so.
func TestPersistKeysInMemory(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3)
	s.keys = ""
	s.open(harness.Options{Env: []string{"STATE_DIRECTORY="}})
	want(t, s.d.WaitLine("level=WARN"), "persistence")
	b := s.pinned("e1")
	for range 3 {
		s.restart()
		s.stays(b, "e1")
	}
	s.stop(syscall.SIGTERM)
	s.again()
	path := newPath()
	one(t, b.MustGet(t, path), "SRV")
	if v := s.d.WaitPath(path).Str("persistence"); v != "invalid" && v != "unknown-key" {
		t.Errorf("found %q", v)
	}
}
