package config

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

const (
	listenerDoc = "[listener.web]\naddress = \":80\"\n[[listener.web.route]]\ncluster = \"a\"\n"
	clusterDoc  = "[cluster.a]\nendpoints = [{ address = \"a:1\" }]\n"
)

// writeTree writes files below a new directory. A name that ends with "/" is a
// directory; "->" in front of a text makes a symbolic link.
func writeTree(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, text := range files {
		file := filepath.Join(dir, name)
		err := os.MkdirAll(filepath.Dir(file), 0o755)
		target, link := strings.CutPrefix(text, "->")
		switch {
		case err != nil:
		case strings.HasSuffix(name, "/"):
			err = os.MkdirAll(file, 0o755)
		case link:
			err = os.Symlink(target, file)
		default:
			err = os.WriteFile(file, []byte(text), 0o644)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func TestLoad(t *testing.T) {
	tests := []struct {
		name  string
		files map[string]string
		want  string // DIR stands for the directory
	}{
		{"OK one file", map[string]string{"belay.toml": listenerDoc + clusterDoc}, ""},
		{"OK parts", map[string]string{"belay.toml": "", "conf.d/a.toml": clusterDoc, "conf.d/b.toml": listenerDoc}, ""},
		{"OK others are passed over", map[string]string{
			"belay.toml": listenerDoc + clusterDoc, "conf.d/.a.toml": "x", "conf.d/a.toml~": "x", "conf.d/README": "x", "conf.d/sub/a.toml": "x",
		}, ""},
		{"OK listeners in several files", map[string]string{
			"belay.toml": listenerDoc + clusterDoc, "conf.d/a.toml": "[listener.b]\naddress = \":81\"\nroute = [{ cluster = \"a\" }]",
		}, ""},
		{"bad no file", nil, "DIR/belay.toml: cannot be read: no such file or directory"},
		{"bad unreadable include", map[string]string{
			"belay.toml": listenerDoc, "conf.d/a.toml": "->nowhere", "conf.d/b.toml/": "",
		}, `DIR/conf.d/a.toml: cannot be read: no such file or directory
DIR/conf.d/b.toml: cannot be read: is a directory`},
		{"bad conf.d", map[string]string{"belay.toml": listenerDoc + clusterDoc, "conf.d": ""}, "DIR/conf.d: cannot be read: not a directory"},
		{"bad table in two files", map[string]string{
			"belay.toml":     "[server]\nworkers = 1\n" + listenerDoc + clusterDoc,
			"conf.d/10.toml": "\n" + clusterDoc + "[server]\nworkers = \"x\"",
			"conf.d/20.toml": "[listener.web.limits]\nbody = 1\n[cluster.a]\n",
		}, `DIR/conf.d/10.toml:2: cluster.a: is in DIR/belay.toml:7 as well; a table belongs in one file
DIR/conf.d/10.toml:4: server: is in DIR/belay.toml:1 as well; a table belongs in one file
DIR/conf.d/10.toml:5: server.workers: must be an integer, not a string
DIR/conf.d/20.toml:1: listener.web: is in DIR/belay.toml:3 as well; a table belongs in one file
DIR/conf.d/20.toml:3: cluster.a: is in DIR/belay.toml:7 as well; a table belongs in one file`},
		{"bad files keep their order", map[string]string{
			"belay.toml": listenerDoc + "x = 1", "conf.d/a.toml": "a = = 1", "conf.d/b.toml": "y = 1\n",
		}, `DIR/belay.toml:5: listener.web.route[0].x: unknown key
DIR/conf.d/a.toml:1: expected value but found '=' instead
DIR/conf.d/b.toml:1: y: unknown key`},
		{"bad cluster is in no file", map[string]string{"belay.toml": listenerDoc, "conf.d/a.toml": strings.Replace(clusterDoc, "cluster.a", "cluster.b", 1)},
			`DIR/belay.toml:4: listener.web.route[0].cluster: no cluster "a"; did you mean "b"?`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			dir := writeTree(t, tt.files)
			_, err := Load(filepath.Join(dir, "belay.toml"))
			got := ""
			if err != nil {
				got = strings.ReplaceAll(err.Error(), dir, "DIR")
			}
			if got != tt.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, tt.want)
			}
		})
	}
}

func TestLoadPermissionDenied(t *testing.T) {
	dir := writeTree(t, map[string]string{"belay.toml": listenerDoc + clusterDoc, "conf.d/a.toml": ""})
	file := filepath.Join(dir, "conf.d/a.toml")
	if err := os.Chmod(file, 0); err != nil {
		t.Fatal(err)
	}
	for _, d := range []string{filepath.Dir(dir), dir, filepath.Join(dir, "conf.d")} {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if os.Getuid() == 0 { // root may read everything: look with the eyes of another, on this thread only
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		if err := syscall.Setfsuid(65534); err != nil {
			t.Fatal(err)
		}
		defer func() { _ = syscall.Setfsuid(0) }()
	}
	_, err := Load(filepath.Join(dir, "belay.toml"))
	if err == nil || err.Error() != file+": cannot be read: permission denied" {
		t.Errorf("error %v", err)
	}
}

func TestLoadNamesFilesInOrder(t *testing.T) {
	dir := writeTree(t, map[string]string{"belay.toml": "", "conf.d/b.toml": listenerDoc, "conf.d/a.toml": clusterDoc})
	c, err := Load(filepath.Join(dir, "belay.toml"))
	if err != nil {
		t.Fatal(err)
	}
	if got, want := strings.ReplaceAll(strings.Join(c.Files, " "), dir+"/", ""), "belay.toml conf.d/a.toml conf.d/b.toml"; got != want {
		t.Errorf("files %s, want %s", got, want)
	}
}
