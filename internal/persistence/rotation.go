package persistence

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
)

// Rotation says when a generated ring moves on. All are seconds.
type Rotation struct {
	Every uint32 // a new key is drawn when the minting one is this old; 0 is never
	// Accept is how long a new key only opens before it mints. It has to be longer
	// than a process drains: the old process of a hot restart knows only the keys
	// it had when the new one started.
	Accept uint32
	Keep   uint32 // an old key is dropped after this time: the longest life of a token; 0 is never
}

// Step moves a ring on to a time: it drops keys that are old for long enough,
// lets an accepted key mint when its time has come, and draws a new key when the
// minting one is due. It returns r itself if there is nothing to do. A clock that
// goes backwards does nothing; a key without a time is dated now.
func (r *Ring) Step(rot Rotation, now uint32) *Ring {
	var keys []*key
	changed := false
	for _, k := range r.keys {
		if k.since == 0 {
			k, changed = k.enter(k.state, now), true
		}
		if k.state == Old && rot.Keep > 0 && ahead(now, k.since) > rot.Keep {
			changed = true
			continue
		}
		keys = append(keys, k)
	}
	next := slices.IndexFunc(keys, func(k *key) bool { return k.state == Accept })
	mint := slices.IndexFunc(keys, func(k *key) bool { return k.state == Mint })
	switch {
	case next >= 0 && ahead(now, keys[next].since) >= rot.Accept:
		keys[mint] = keys[mint].enter(Old, now)
		keys[next] = keys[next].enter(Mint, now)
		changed = true
	case next < 0 && rot.Every > 0 && ahead(now, keys[mint].since) >= rot.Every && len(keys) < MaxKeys:
		keys = append(keys, newKey(freeID(keys, keys[mint].id), Accept, now))
		changed = true
	}
	if !changed {
		return r
	}
	moved, err := newRing(keys)
	if err != nil {
		return r // cannot be: ids stay apart and one key mints
	}
	return moved
}

// enter is a copy of a key in a state; keys are shared with rings in use.
func (k *key) enter(s KeyState, now uint32) *key {
	c := *k
	c.state, c.since = s, now
	return &c
}

// freeID is the first id after one that no key has.
func freeID(keys []*key, after uint8) uint8 {
	id := after
	for {
		id = (id + 1) & MaxKeyID
		if !slices.ContainsFunc(keys, func(k *key) bool { return k.id == id }) {
			return id
		}
	}
}

// LoadFile reads a keyring from a file. An error that satisfies
// errors.Is(err, fs.ErrNotExist) says that there is none.
func LoadFile(path string) (*Ring, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("keyring: %w", err)
	}
	r, err := ParseRing(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return r, nil
}

// LoadOrCreate reads the ring from a file and makes both if there is no file. A
// file that cannot be read is an error: replacing it would end every session. If
// a new ring cannot be saved, it is returned with the error and can be used.
func LoadOrCreate(path string, now uint32) (*Ring, error) {
	r, err := LoadFile(path)
	if !errors.Is(err, fs.ErrNotExist) {
		return r, err
	}
	r = NewRing(now)
	return r, r.Save(path)
}

// Save writes the ring to a file that only its owner can read. The file is
// replaced as a whole and is on the disk when Save returns, so that a crash
// leaves the old or the new ring.
func (r *Ring) Save(path string) error {
	dir := filepath.Dir(path)
	f, err := os.CreateTemp(dir, "."+filepath.Base(path)+".*") // has mode 0600
	if err != nil {
		return fmt.Errorf("save keyring: %w", err)
	}
	defer os.Remove(f.Name())
	_, err = f.Write(r.Text())
	if err == nil {
		err = f.Sync()
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return fmt.Errorf("save keyring: %w", err)
	}
	d, err := os.Open(dir)
	if err != nil {
		return fmt.Errorf("save keyring: %w", err)
	}
	defer d.Close()
	if err := d.Sync(); err != nil {
		return fmt.Errorf("save keyring: %w", err)
	}
	return nil
}
