package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"belay/internal/certs"
	"belay/internal/config"
	"belay/internal/persistence"
)

// keyParts is what stands behind Server.keyring.
type keyParts struct {
	mu       sync.Mutex // held by who changes the ring; guards what follows
	given    *persistence.Ring
	path     string // where generated keys are; "": nowhere, or they are not generated
	unsaved  bool   // the ring differs from the file's
	tryAfter time.Time
	rotation persistence.Rotation

	shared     string // file or credential with the keyring of several machines; "": the keys are generated
	saveErrors atomic.Uint64
}

// keysFile is the file of generated keys.
const keysFile = "persistence.keys"

// openKeys finds the keys that seal tokens: in the keyring that machines share;
// else with the parent, whose ring is newer than any file; else in the state
// directory. What cannot be read there is an error: new keys in its place would
// end every session.
func (s *Server) openKeys(used map[string][]*config.Persistence) error {
	k := &s.keys
	if !usesTokens(used) {
		k.given = nil
		return nil
	}
	k.rotation = keyRotation(&s.cfg.Keys, used)
	if k.shared = s.cfg.Keys.Keyring.String(); k.shared != "" {
		ring, err := s.readKeyring()
		if err != nil {
			return fmt.Errorf("persistence.keyring: %w", err)
		}
		s.keyring = persistence.NewKeyring(ring)
		return nil
	}
	ring, err := s.generatedKeys()
	if err != nil {
		return fmt.Errorf("persistence.directory: %w", err)
	}
	s.keyring = persistence.NewKeyring(ring)
	return nil
}

func usesTokens(used map[string][]*config.Persistence) bool {
	for _, list := range used {
		if _, any := longestLife(list); any {
			return true
		}
	}
	return false
}

// generatedKeys are the parent's, those in the file, or new ones.
func (s *Server) generatedKeys() (*persistence.Ring, error) {
	k := &s.keys
	dir := keysDirectory(&s.cfg.Keys)
	if dir == "" {
		s.log.Warn("keys of session persistence are in memory only: a restart ends every session that a cookie or header carries; set persistence.directory, or StateDirectory= in the unit")
		if k.given != nil {
			return k.given, nil
		}
		return persistence.NewRing(unixNow()), nil
	}
	k.path = filepath.Join(dir, keysFile)
	if k.given == nil {
		_ = os.MkdirAll(dir, 0o700) // saving will say what is wrong
		ring, err := persistence.LoadOrCreate(k.path, unixNow())
		if ring == nil {
			return nil, err
		}
		if k.unsaved = err != nil; k.unsaved {
			s.saveFailed(err)
		}
		return ring, nil
	}
	old, err := persistence.LoadFile(k.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	// The file is the parent's until this process is main.
	k.unsaved = old == nil || string(old.Text()) != string(k.given.Text())
	return k.given, nil
}

// keysDirectory is where generated keys are kept; "": nowhere.
func keysDirectory(c *config.Keys) string {
	if c.Directory != "" {
		return c.Directory
	}
	dir, _, _ := strings.Cut(os.Getenv("STATE_DIRECTORY"), ":") // systemd.exec(5)
	return dir
}

// defaultKeep is how long old keys open where no token has a limit.
const defaultKeep = 30 * 24 * time.Hour

// keyRotation is when generated keys move on. Without a word on it a key opens
// until no token of it can be good: for the longest max_age, or, where only the
// idle time is limited, which moves on with each token, ten times that.
func keyRotation(c *config.Keys, used map[string][]*config.Persistence) persistence.Rotation {
	keep := c.Keep
	if keep == 0 {
		for _, list := range used {
			eachToken(list, func(idle, age time.Duration) {
				switch {
				case age == 0 && idle == 0:
					age = defaultKeep
				case age == 0:
					age = 10 * idle
				}
				keep = max(keep, age+c.Skew)
			})
		}
	}
	return persistence.Rotation{Every: seconds(c.Rotation), Accept: seconds(c.Overlap), Keep: seconds(keep)}
}

func (s *Server) readKeyring() (*persistence.Ring, error) {
	files := certs.Files{Credentials: s.credentialsPath()}
	text, err := files.Read(s.keys.shared)
	if err != nil {
		return nil, err
	}
	return parseKeyring(s.keys.shared, text)
}

func parseKeyring(name string, text []byte) (*persistence.Ring, error) {
	ring, err := persistence.ParseRing(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", name, err)
	}
	return ring, nil
}

// watchKeyring keeps a keyring that machines share current until ctx ends.
func (s *Server) watchKeyring(ctx context.Context) {
	if s.keyring == nil || s.keys.shared == "" {
		return
	}
	files := certs.Files{Credentials: s.credentialsPath()}
	go files.Follow(ctx, s.keys.shared, s.takeKeyring)
}

// takeKeyring puts a keyring that was read in place. One that is bad changes
// nothing.
func (s *Server) takeKeyring(text []byte, err error) {
	var ring *persistence.Ring
	if err == nil {
		ring, err = parseKeyring(s.keys.shared, text)
	}
	if err != nil {
		s.log.Error("persistence keyring cannot be loaded; the last good one stays in use", "error", err)
		return
	}
	s.keys.mu.Lock()
	defer s.keys.mu.Unlock()
	if string(ring.Text()) == string(s.keyring.Load().Text()) {
		return
	}
	s.keyring.Swap(ring)
	s.log.Info("persistence keyring loaded", "keys", ring.String())
}

// saveInterval is the time between two tries to save keys.
const saveInterval = 30 * time.Second

// turnKeys moves generated keys on: in the main process alone, for the others
// have the same file and are told. While keys are not on the disk none moves on,
// so that nothing is sealed with one that a crash would lose.
func (s *Server) turnKeys(now time.Time) {
	k := &s.keys
	if s.keyring == nil || k.shared != "" || !s.service.main.Load() {
		return
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.unsaved && (now.Before(k.tryAfter) || !s.saveKeys(now)) {
		return
	}
	ring := s.keyring.Load()
	next := ring.Step(k.rotation, uint32(now.Unix()))
	if next == ring {
		return
	}
	s.keyring.Swap(next)
	s.log.Info("persistence keys rotated", "keys", next.String())
	if k.path != "" {
		k.unsaved = true
		s.saveKeys(now)
	}
}

// saveKeys writes the ring to its file; keys.mu is held.
func (s *Server) saveKeys(now time.Time) bool {
	if err := s.keyring.Load().Save(s.keys.path); err != nil {
		s.keys.tryAfter = now.Add(saveInterval)
		s.saveFailed(err)
		return false
	}
	s.keys.unsaved = false
	return true
}

func (s *Server) saveFailed(err error) {
	s.keys.saveErrors.Add(1)
	s.log.Warn("persistence keys not saved; tried again", "path", s.keys.path, "in", saveInterval, "error", err)
}
