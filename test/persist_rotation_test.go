package test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"belay/test/harness"
)

// Generated keys rotate by themselves: a session in use goes through several keys
// and two hot restarts and a crash, and stays.
func TestPersistKeysRotateThemselves(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3)
	dir := harness.TempDir(t)
	s.keys = fmt.Sprintf("directory = %q\nrotation = \"1s\"\noverlap = \"1s\"", dir)
	s.more = strings.TrimSpace(calmRestart) + "\ndrain_time = \"500ms\"\nshutdown_time = \"1s\"\n"
	s.open()
	ids := func() (list []string) {
		data, err := os.ReadFile(dir + "/persistence.keys")
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range lines(string(data)) {
			if f := strings.Fields(l); f[0] == "mint" {
				list = append(list, f[1])
			}
		}
		return list
	}
	b := s.pinned("e1")
	seen, minted := map[string]bool{}, map[string]bool{}
	steps := []func(){s.restart, func() { s.stop(syscall.SIGKILL); s.again() }, s.restart}
	for began := time.Now(); len(seen) < 5 || len(steps) > 0; {
		if time.Since(began) > 25*time.Second {
			t.Fatalf("keys that minted: %v", seen)
		}
		list := ids()
		if len(list) != 1 {
			t.Fatalf("keys that mint: %v", list)
		}
		if !seen[list[0]] {
			seen[list[0]] = true
			if len(steps) > 0 {
				steps[0]()
				steps = steps[1:]
			}
		}
		a := s.visit(b)
		if a.Backend() != "e1" {
			t.Fatalf("the session is on %s", a.Backend())
		}
		if c := a.Cookies("SRV"); len(c) > 0 {
			minted[value(c[0])] = true
		}
		time.Sleep(50 * time.Millisecond) // a pace, not a wait
	}
	if len(minted) < 3 {
		t.Errorf("%d cookies were set under %d keys", len(minted), len(seen))
	}
	if left, _ := filepath.Glob(dir + "/.*keys*"); len(left) > 0 {
		t.Errorf("left in the directory: %v", left)
	}
}

// A keyring that machines share is read again when it changes; one that is bad
// changes nothing and is told.
func TestPersistKeyringIsFollowed(t *testing.T) {
	t.Parallel()
	s := newShop(t, 3)
	path := s.sharedKeyring("mint 1 "+secret('a'), "accept 2 "+secret('b'))
	s.open(harness.Options{Errors: true})
	b := s.pinned("e1")
	replace := func(lines ...string) {
		t.Helper()
		writeKeyring(t, path+".new", lines...)
		if err := os.Rename(path+".new", path); err != nil {
			t.Fatal(err)
		}
	}
	replace("old 1 "+secret('a'), "mint 2 "+secret('b'))
	s.d.WaitLine("persistence keyring loaded")
	one(t, s.told(b, "old-key", "refreshed"), "SRV")
	s.told(b, "valid", "kept")
	replace("mint 2 " + secret('b')[:10])
	want(t, s.d.WaitLine("persistence keyring cannot be loaded"), "level=ERROR", path)
	s.stays(b, "e1")
	replace("mint 2 " + secret('b'))
	harness.Eventually(t, patience, "the keyring to be loaded again", func() bool { return s.d.CountLines("persistence keyring loaded") == 2 })
	s.stays(b, "e1")
	wantNot(t, s.d.Stderr(), secret('a'), secret('b'), secret('b')[:10])
}

// The keyring may be a credential, which hot restarts have as well.
func TestPersistKeyringCredential(t *testing.T) {
	t.Parallel()
	dir := harness.TempDir(t)
	writeKeyring(t, dir+"/belay.keys", "mint 5 "+secret('c'))
	credential, file := newShop(t, 3), ""
	credential.keys = "keyring = \"credential:belay.keys\""
	credential.open(harness.Options{Env: []string{"CREDENTIALS_DIRECTORY=" + dir}})
	b := credential.pinned("e2")
	other := credential.second() // with the same keys in a file
	file = other.sharedKeyring("mint 5 " + secret('c'))
	other.open()
	b.Addr = other.bind
	other.stays(b, "e2")
	b.Addr = credential.bind
	credential.restart()
	credential.stays(b, "e2")
	credential.told(b, "valid", "kept")
	wantNot(t, credential.d.Hooks(), secret('c'), file)
}

// A key's file that cannot be read ends the start rather than every session.
func TestPersistBrokenKeyFile(t *testing.T) {
	t.Parallel()
	dir := harness.TempDir(t)
	harness.WriteFile(t, dir, "persistence.keys", "mint 1 "+secret('a')[:30]+"\n")
	s := newShop(t, 1)
	s.keys = fmt.Sprintf("directory = %q", dir)
	d := harness.Launch(t, s.config(), harness.Options{Errors: true})
	if code := d.Wait(patience); code == 0 {
		t.Error("it was served")
	}
	want(t, d.Stderr(), "persistence.keys")
	wantNot(t, d.Stderr(), secret('a')[:20])
}
