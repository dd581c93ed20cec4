package harness

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// trixie is made or found once per test process.
var trixie struct {
	sync.Once
	root, said string
	err        error
}

// Trixie is the path of a Debian 13 root file system with systemd 257, which
// BootBox uses if told to. It is made when it is not there, which takes about 40 s,
// and kept between runs; see test/box/trixie. The test is skipped without root
// or debootstrap.
func Trixie(t testing.TB) string {
	t.Helper()
	if os.Getuid() != 0 {
		t.Skip("a Debian 13 root needs root to be made")
	}
	Need(t, "debootstrap")
	script := filepath.Join(Root(t), "test/box/trixie")
	trixie.Do(func() {
		var stderr bytes.Buffer
		cmd := exec.Command(script)
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		trixie.root, trixie.said, trixie.err = strings.TrimSpace(string(out)), stderr.String(), err
	})
	if trixie.err != nil {
		t.Fatalf("test/box/trixie: %v\n%s", trixie.err, trixie.said)
	}
	return trixie.root
}
