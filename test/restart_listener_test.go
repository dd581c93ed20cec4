package test

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"

	"belay/test/harness"
)

// narrowed is a site on a wildcard, and the address of it to which the next
// configuration narrows it.
func narrowed(t *testing.T) (s *site, wide, narrow string) {
	t.Helper()
	s = restartable(t)
	narrow = harness.Addr(t)
	_, port, _ := net.SplitHostPort(narrow)
	s.addr = "0.0.0.0:" + port
	return s, s.addr, narrow
}

// A child whose configuration narrows a wildcard to one address of it takes nobody
// from its parent before it accepts: who connects while it prepares, and fails, is
// served.
func TestHotRestartNarrowsAndFails(t *testing.T) {
	t.Parallel()
	s, wide, narrow := narrowed(t)
	d, arm := faulty(t, s)
	c := startClients(t, narrow, 2, 2)
	rewrite(t, d, wide, narrow)
	for i, action := range []string{"stop", "kill"} {
		arm("child.built", action)
		before := c.good.Load()
		if g, code := d.TryHotRestart(); code != 1 {
			t.Errorf("%s: exit code %d\n%s", action, code, g.Output)
		}
		d.WaitLine("fault: child.built " + action)
		if c.good.Load() == before {
			t.Errorf("%s: nobody was served meanwhile", action)
		}
		if st := statusOf(t, d); st.Epoch != 1 || st.Restarts.Failed != i+1 {
			t.Errorf("%s: %+v", action, st)
		}
	}
	c.end()
}

// The same one succeeds: nobody is lost, and afterwards only that address is left.
func TestHotRestartNarrows(t *testing.T) {
	t.Parallel()
	s, wide, narrow := narrowed(t)
	d := ordinary(t, s)
	c := startClients(t, narrow, 2, 0)
	rewrite(t, d, wide, narrow)
	d.HotRestart()
	before := c.good.Load()
	harness.Eventually(t, patience, "clients of the new process", func() bool { return c.good.Load() > before+20 })
	c.end()
	_, port, _ := net.SplitHostPort(narrow)
	if x, err := harness.TryDial("", "127.0.0.1:"+port); err == nil {
		_ = x.Close()
		t.Error("another address of the wildcard accepts")
	}
}

// A child that is taken back after it accepted on an address of its own: the
// connections of the parent live, so do the child's, and the parent has the address.
func TestHotRestartNarrowsAndIsTakenBack(t *testing.T) {
	t.Parallel()
	s, wide, narrow := narrowed(t)
	s.more = strings.Replace(patient, `probation = "200ms"`, `probation = "60s"`, 1)
	d := ordinary(t, s, harness.Options{Errors: true})
	old := harness.Dial(t, narrow)
	old.ExpectOpen("/old", "a")
	fresh := harness.TempDir(t) + "/fresh.sock"
	rewrite(t, d, wide, narrow, "[cluster.back]", listenerAt("fresh", "unix:"+fresh)+"[cluster.back]")
	hook, child := probation(t, d)
	tunnel := upgrade(t, narrow)
	if !exists(t, fresh) {
		t.Error("the child does not listen on its Unix socket")
	}
	_ = hook.Process.Kill()
	_ = hook.Wait()
	harness.Eventually(t, patience, "the restart to be taken back", func() bool { return statusOf(t, d).Restarts.RolledBack == 1 })
	if tunnel.Send("still there"); tunnel.ReadN(11) != "still there" {
		t.Error("the tunnel through the child does not work")
	}
	_ = tunnel.Close()
	old.ExpectOpen("/old", "a")
	ended(t, child)
	wantStatus(t, harness.Get(t, narrow, "/", "a"), 200)
	if exists(t, fresh) {
		t.Error("the file of the child's Unix socket is left")
	}
	if st := statusOf(t, d); st.Epoch != 1 || st.Restarts.RolledBack != 1 {
		t.Errorf("%+v", st)
	}
}

// probation begins a hot restart and returns in its probation.
func probation(t *testing.T, d *harness.Daemon) (hook *exec.Cmd, child int) {
	t.Helper()
	out, err := os.Create(harness.TempDir(t) + "/hook.log") // a file: the new process goes on writing to it
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = out.Close() }()
	hook = exec.Command(harness.Binary(t, "belayd", false), "hot-restart", "--config", d.Config, "--directory", d.Dir)
	hook.Stdout, hook.Stderr = out, out
	if err := hook.Start(); err != nil {
		t.Fatal(err)
	}
	harness.Eventually(t, patience, "probation", func() bool {
		st := statusOf(t, d)
		for _, g := range st.Generations {
			if !g.Main {
				child = g.PID
			}
		}
		return st.Phase == "probation" && child != 0
	})
	d.Adopt(child)
	return hook, child
}

func listenerAt(name, addr string) string {
	return fmt.Sprintf("[listener.%s]\naddress = %q\n[[listener.%s.route]]\ncluster = \"back\"\n", name, addr, name)
}

func exists(t *testing.T, path string) bool {
	t.Helper()
	_, err := os.Lstat(path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	return err == nil
}

// A Unix listener that the new configuration has dropped takes its file with it, as
// soon as the restart is done; one that passes on keeps its file, also when the
// process that bound it ends, and one that comes back is bound anew.
func TestHotRestartDropsUnixListener(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	dir := harness.TempDir(t)
	stays, goes := dir+"/stays.sock", dir+"/goes.sock"
	s.more += listenerAt("stays", "unix:"+stays) + listenerAt("goes", "unix:"+goes)
	d := ordinary(t, s)
	serves := func(path string) {
		t.Helper()
		c, err := net.Dial("unix", path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
			return
		}
		defer func() { _ = c.Close() }()
		wantStatus(t, harness.Wrap(t, c).Do("GET", "/", "a", "Connection: close"), 200)
	}
	d.HotRestart() // so that the process that bound them is not the last to have them
	d.Wait(patience)
	serves(stays)
	serves(goes)
	rewrite(t, d, listenerAt("goes", "unix:"+goes), "")
	g := d.HotRestart()
	if exists(t, goes) {
		t.Error("the file of the dropped listener is left")
	}
	serves(stays)
	rewrite(t, d, "[cluster.back]", listenerAt("goes", "unix:"+goes)+"[cluster.back]")
	d.HotRestart()
	ended(t, g.PID)
	serves(stays)
	serves(goes)
}

// A child that bound a Unix socket and then cannot come up leaves no file behind.
func TestHotRestartFailsWithoutAFile(t *testing.T) {
	t.Parallel()
	s := restartable(t)
	d := ordinary(t, s, harness.Options{Errors: true})
	fresh := harness.TempDir(t) + "/fresh.sock"
	taken := harness.NewEcho(t, "other")
	rewrite(t, d, "[cluster.back]", listenerAt("fresh", "unix:"+fresh)+listenerAt("taken", taken.Addr)+"[cluster.back]")
	g, code := d.TryHotRestart()
	if code != 1 {
		t.Errorf("exit code %d", code)
	}
	want(t, g.Output, "address already in use", taken.Addr)
	if exists(t, fresh) {
		t.Error("the file of a socket that nobody has is left")
	}
}
