package shm

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Attach only looks: it makes no file, repairs none, and keeps nobody from using
// one.
func TestAttach(t *testing.T) {
	path := segmentPath(t)
	if _, err := Attach(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("without a file: %v", err)
	}
	if list, err := filepath.Glob(path + "*"); err != nil || len(list) > 0 {
		t.Errorf("files were made: %v, %v", list, err)
	}
	s := openClean(t, path)
	join(t, s, nextEpoch(t, s), StateServing)
	a, err := Attach(path)
	if err != nil {
		t.Fatal(err)
	}
	if list := a.Processes(); len(list) != 1 || list[0].Epoch != 1 {
		t.Errorf("processes: %+v", list)
	}
	if err := a.Close(); err != nil {
		t.Error(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("nonsense"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Attach(path); err == nil || !strings.Contains(err.Error(), "the size is 8 bytes") {
		t.Errorf("a broken file: %v", err)
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "nonsense" {
		t.Errorf("it was repaired: %q, %v", data, err)
	}
}
