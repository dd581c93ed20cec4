package server

import (
	"bytes"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"belay/internal/config"
	"belay/internal/persistence"
	"belay/internal/stats"
)

// houseText is a configuration of two clusters, for persistence to be added to.
const houseText = `
[admin]
socket = "none"
[listener.web]
address = "127.0.0.1:9"
[[listener.web.route]]
path_prefix = "/b"
cluster = "b"
[[listener.web.route]]
cluster = "a"
[cluster.a]
endpoints = [{ id = "one", address = "127.0.0.1:1" }, { id = "two", address = "127.0.0.1:2" }]
[cluster.b]
endpoints = [{ id = "one", address = "127.0.0.1:3" }]
`

// house is a server of which only the control plane is there.
func house(t *testing.T, change func(*config.Config)) (*Server, *logText) {
	t.Helper()
	cfg, err := config.Parse("test.toml", []byte(houseText))
	if err != nil {
		t.Fatal(err)
	}
	if change != nil {
		change(cfg)
	}
	text := &logText{}
	s := newServer(cfg, "test", nil)
	s.log = slog.New(slog.NewTextHandler(text, nil))
	s.registry = stats.NewRegistry()
	s.buildClusters()
	return s, text
}

// openHouse is a house with its persistence.
func openHouse(t *testing.T, change func(*config.Config)) (*Server, *logText) {
	t.Helper()
	s, text := house(t, change)
	if err := s.openPersistence(); err != nil {
		t.Fatal(err)
	}
	return s, text
}

// sticky gives cluster a cookie persistence with keys in dir.
func sticky(dir string) func(*config.Config) {
	return func(c *config.Config) {
		c.Keys = config.Keys{Directory: dir, Rotation: 24 * time.Hour, Overlap: time.Hour, Skew: time.Minute}
		c.Clusters[0].TrackSessions = 1000
		c.Clusters[0].Persistence = &config.Persistence{Cookie: &config.CookiePersistence{MaxIdle: 30 * time.Minute, MaxAge: 12 * time.Hour}}
	}
}

func TestPersistenceUnused(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("STATE_DIRECTORY", dir)
	s, text := openHouse(t, func(c *config.Config) {
		c.Clusters[0].Persistence = &config.Persistence{Table: &config.TablePersistence{Name: "t"}}
		c.Clusters[1].Persistence = &config.Persistence{Off: true, Cookie: &config.CookiePersistence{}}
	})
	if files, _ := os.ReadDir(dir); len(files) > 0 || s.keyring != nil || len(s.tables) > 0 || s.clusters[0].Sessions != nil || s.clusters[1].Sessions != nil {
		t.Errorf("files %v, keyring %v, tables %v", files, s.keyring, s.tables)
	}
	if text.String() != "" {
		t.Error(text)
	}
}

// The keys that are generated are in a file of the state directory and there
// again after the next start.
func TestKeysInStateDirectory(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "state")
	t.Setenv("STATE_DIRECTORY", dir+":/elsewhere")
	s, text := openHouse(t, sticky(""))
	info, err := os.Stat(filepath.Join(dir, keysFile))
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Fatalf("file: %v, %v", info, err)
	}
	again, _ := openHouse(t, sticky(""))
	if a, b := s.keyring.Load().Text(), again.keyring.Load().Text(); !bytes.Equal(a, b) {
		t.Error("the second start has other keys")
	}
	if text.String() != "" {
		t.Error(text)
	}
}

func TestKeysInMemory(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", "")
	s, text := openHouse(t, sticky(""))
	if s.keyring == nil || strings.Count(text.String(), "level=WARN") != 1 {
		t.Errorf("keyring %v, log %s", s.keyring, text)
	}
}

// A file of keys that cannot be used is an error that names it, and stays as it
// is: with new keys every session would end.
func TestKeysBroken(t *testing.T) {
	for _, given := range []bool{false, true} {
		t.Run(fmt.Sprintf("given=%v", given), func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, keysFile)
			if err := os.WriteFile(path, []byte("mint 0 rubbish\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			s, _ := house(t, sticky(dir))
			if given {
				s.keys.given = persistence.NewRing(1)
			}
			if err := s.openPersistence(); err == nil || !strings.Contains(err.Error(), path) || strings.Contains(err.Error(), "rubbish") {
				t.Errorf("error %v", err)
			}
			if data, _ := os.ReadFile(path); string(data) != "mint 0 rubbish\n" {
				t.Errorf("the file is now %q", data)
			}
		})
	}
}

// What the parent has is newer than the file, and gets there when the process is
// main.
func TestKeysOfTheParent(t *testing.T) {
	dir := t.TempDir()
	openHouse(t, sticky(dir))
	path := filepath.Join(dir, keysFile)
	before, _ := os.ReadFile(path)
	s, _ := house(t, sticky(dir))
	s.keys.given = persistence.NewRing(unixNow())
	if err := s.openPersistence(); err != nil {
		t.Fatal(err)
	}
	if s.keyring.Load() != s.keys.given {
		t.Error("the parent's keys are not used")
	}
	s.turnKeys(time.Now())
	if now, _ := os.ReadFile(path); !bytes.Equal(now, before) {
		t.Error("a process that is not main has written the file")
	}
	s.service.main.Store(true)
	s.turnKeys(time.Now())
	if now, _ := os.ReadFile(path); !bytes.Equal(now, s.keys.given.Text()) {
		t.Error("the main process has not written the file")
	}
}

// states is "0 mint, 1 accept" and so on.
func states(k *persistence.Keyring) string {
	var list []string
	for _, x := range k.Load().Keys() {
		list = append(list, fmt.Sprint(x.ID, " ", x.State))
	}
	return strings.Join(list, ", ")
}

// A key is accepted for the overlap, mints for the rotation, and opens as long as
// a token of it can be good; each step is on the disk.
func TestKeysRotate(t *testing.T) {
	dir := t.TempDir()
	s, text := openHouse(t, sticky(dir))
	s.service.main.Store(true)
	now := time.Now()
	for _, step := range []struct {
		after time.Duration
		want  string
	}{
		{24*time.Hour - time.Minute, "0 mint"},
		{2 * time.Minute, "0 mint, 1 accept"},
		{59 * time.Minute, "0 mint, 1 accept"},
		{2 * time.Minute, "0 old, 1 mint"},
		{12 * time.Hour, "0 old, 1 mint"}, // max_age and the skew of clocks
		{2 * time.Minute, "1 mint"},
	} {
		now = now.Add(step.after)
		s.turnKeys(now)
		saved, err := persistence.LoadFile(filepath.Join(dir, keysFile))
		if err != nil {
			t.Fatal(err)
		}
		if got := states(s.keyring); got != step.want || got != states(persistence.NewKeyring(saved)) {
			t.Fatalf("after %v: %s, on the disk %s; want %s", step.after, got, saved, step.want)
		}
	}
	secret := strings.Fields(string(s.keyring.Load().Text()))
	if !strings.Contains(text.String(), "rotated") || strings.Contains(text.String(), secret[len(secret)-2]) {
		t.Error(text)
	}
}

// Keys that cannot be saved are used, and do not move on before they are.
func TestKeysNotSaved(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "file", "state")
	if err := os.WriteFile(filepath.Dir(dir), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	s, _ := house(t, sticky(dir))
	if err := s.openPersistence(); err == nil {
		t.Fatal("a file for a directory is taken")
	}
	if err := os.Remove(filepath.Dir(dir)); err != nil {
		t.Fatal(err)
	}
	s, text := openHouse(t, sticky(dir))
	s.service.main.Store(true)
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	now := time.Now().Add(25 * time.Hour)
	s.turnKeys(now)
	if n := s.keys.saveErrors.Load(); n != 1 || !strings.Contains(text.String(), "not saved") {
		t.Errorf("%d errors:\n%s", n, text)
	}
	s.turnKeys(now.Add(2 * time.Hour))
	if got := states(s.keyring); got != "0 mint, 1 accept" || s.keys.saveErrors.Load() != 2 {
		t.Errorf("%s, %d errors", got, s.keys.saveErrors.Load())
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	s.turnKeys(now.Add(2*time.Hour + 2*saveInterval))
	if got := states(s.keyring); got != "0 old, 1 mint" {
		t.Errorf("%s", got)
	}
	if _, err := persistence.LoadFile(filepath.Join(dir, keysFile)); err != nil {
		t.Error(err)
	}
}

// A keyring of several machines is a file or a credential, wins over what the
// parent has, follows its file, and is not rotated here.
func TestKeyring(t *testing.T) {
	dir := t.TempDir()
	t.Setenv("CREDENTIALS_DIRECTORY", dir)
	path := filepath.Join(dir, "ring")
	write := func(r *persistence.Ring) {
		t.Helper()
		if err := r.Save(path); err != nil {
			t.Fatal(err)
		}
	}
	first := persistence.NewRing(1)
	write(first)
	for _, secret := range []config.Secret{{File: path}, {Credential: "ring"}} {
		t.Run(secret.String(), func(t *testing.T) {
			write(first)
			s, text := house(t, sticky(t.TempDir()))
			s.cfg.Keys.Keyring = secret
			s.keys.given = persistence.NewRing(2)
			s.openCredentials()
			defer s.closeCredentials()
			if err := s.openPersistence(); err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(s.keyring.Load().Text(), first.Text()) {
				t.Error("other keys")
			}
			s.service.main.Store(true)
			s.turnKeys(time.Now())
			if states(s.keyring) != "0 mint" {
				t.Error("rotated here")
			}
			s.watchKeyring(t.Context())
			second := persistence.NewRing(3)
			write(second)
			until(t, "the keyring is loaded again", func() bool { return bytes.Equal(s.keyring.Load().Text(), second.Text()) })
			if err := os.WriteFile(path, []byte("mint 1 nonsense\n"), 0o600); err != nil {
				t.Fatal(err)
			}
			until(t, "the error is told", func() bool { return strings.Contains(text.String(), "the last good one stays") })
			if !bytes.Equal(s.keyring.Load().Text(), second.Text()) {
				t.Error("the last good one has gone")
			}
		})
	}
	s, _ := house(t, sticky(""))
	s.cfg.Keys.Keyring = config.Secret{File: filepath.Join(dir, "missing")}
	if err := s.openPersistence(); err == nil || !strings.Contains(err.Error(), "missing") {
		t.Errorf("a keyring that is not there: %v", err)
	}
}

func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !done(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal(what, "did not come about")
		}
	}
}

func TestOpenTablesAndSessions(t *testing.T) {
	t.Setenv("STATE_DIRECTORY", t.TempDir())
	s, _ := openHouse(t, func(c *config.Config) {
		c.Tables = []*config.Table{{Name: "x", Size: 10, Expire: time.Minute + time.Millisecond}, {Name: "y", Size: 20}}
		for _, x := range c.Clusters {
			x.TrackSessions = 5000
		}
		a, b := c.Clusters[0], c.Clusters[1]
		a.Persistence = &config.Persistence{Cookie: &config.CookiePersistence{MaxIdle: time.Minute, MaxAge: time.Hour}, Header: &config.HeaderPersistence{MaxIdle: 2 * time.Minute}}
		b.Persistence = &config.Persistence{Table: &config.TablePersistence{Name: "x"}}
		for _, r := range c.Listeners[0].Routes {
			if r.Clusters[0].Cluster == "b" {
				r.Persistence = &config.Persistence{Header: &config.HeaderPersistence{MaxAge: 3 * time.Minute}}
			}
		}
	})
	if x, y := s.tables["x"], s.tables["y"]; x.Size() != 10 || x.Expire() != 61 || y.Size() != 20 || y.Expire() != 0 {
		t.Errorf("tables %v", s.tables)
	}
	if a, b := s.clusters[0].Sessions, s.clusters[1].Sessions; a.Expire() != 120 || a.Size() != 5000 || b.Expire() != 180 {
		t.Errorf("sessions expire after %d and %d seconds", a.Expire(), b.Expire())
	}
	s, _ = openHouse(t, func(c *config.Config) {
		c.Clusters[0].Persistence = &config.Persistence{Cookie: &config.CookiePersistence{MaxIdle: time.Minute}, Header: &config.HeaderPersistence{}}
		c.Clusters[0].TrackSessions = 10
		c.Clusters[1].Persistence = &config.Persistence{Cookie: &config.CookiePersistence{MaxIdle: time.Minute}}
		c.Clusters[1].TrackSessions = 0
	})
	if s.clusters[0].Sessions.Expire() != 0 || s.clusters[1].Sessions != nil {
		t.Error("a token that is good for ever has an end, or sessions are tracked that should not")
	}
}

func TestKeyRotationKeep(t *testing.T) {
	cookie := func(idle, age time.Duration) map[string][]*config.Persistence {
		return map[string][]*config.Persistence{"a": {{Cookie: &config.CookiePersistence{MaxIdle: idle, MaxAge: age}, Header: &config.HeaderPersistence{MaxAge: time.Minute}}}}
	}
	for _, tt := range []struct {
		name      string
		keep      time.Duration
		idle, age time.Duration
		want      time.Duration
	}{
		{"as configured", time.Hour, time.Minute, 5 * time.Hour, time.Hour},
		{"by age", 0, time.Minute, 5 * time.Hour, 5*time.Hour + time.Second},
		{"by idle time", 0, time.Hour, 0, 10*time.Hour + time.Second},
		{"without limits", 0, 0, 0, 30*24*time.Hour + time.Second},
	} {
		c := &config.Keys{Keep: tt.keep, Skew: time.Second, Rotation: time.Hour, Overlap: time.Minute}
		got := keyRotation(c, cookie(tt.idle, tt.age))
		if want := (persistence.Rotation{Every: 3600, Accept: 60, Keep: uint32(tt.want / time.Second)}); got != want {
			t.Errorf("%s: %v, want %v", tt.name, got, want)
		}
	}
}
