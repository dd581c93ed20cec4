package hotrestart

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"belay/internal/shm"
)

// target is where the process to replace is.
type target struct {
	directory string
	base      int
	process   shm.Process
}

func (t *target) segment() string { return SegmentPath(t.directory, t.base) }

func (t *target) socket() string { return SocketPath(t.directory, t.base, t.process.Epoch) }

// find is the process to replace: the service manager's main one, else the newest
// that serves.
func find(o *HookOptions) (t target, err error) {
	for _, d := range o.Directories {
		found, ferr := findIn(o, d)
		if ferr == nil {
			return found, nil
		}
		var none *absent
		if err == nil || errors.As(err, &none) { // a place where there is something says more
			err = ferr
		}
	}
	return t, err
}

// absent says that nobody is at a place.
type absent struct{ text string }

func (a *absent) Error() string { return a.text }

func findIn(o *HookOptions, directory string) (t target, err error) {
	t.directory = directory
	if t.base, err = onlyBase(o, directory); err != nil {
		return t, err
	}
	seg, err := shm.Attach(t.segment())
	if errors.Is(err, os.ErrNotExist) {
		return t, &absent{fmt.Sprintf("no running belayd with base id %d in %s", t.base, directory)}
	}
	if err != nil {
		return t, err
	}
	defer seg.Close()
	for _, p := range seg.Processes() {
		if o.MainPID != 0 && p.PID == o.MainPID || o.MainPID == 0 && p.State == shm.StateServing {
			t.process = p
		}
	}
	switch {
	case t.process.PID == 0 && o.MainPID != 0:
		return t, fmt.Errorf("process %d has no hot restart (base id %d in %s): is it off, or still starting?", o.MainPID, t.base, directory)
	case t.process.PID == 0:
		return t, fmt.Errorf("no running belayd with base id %d in %s", t.base, directory)
	}
	return t, nil
}

// onlyBase finds the segment when the caller named none. The service manager's
// main process tells which of several it is.
func onlyBase(o *HookOptions, directory string) (int, error) {
	if o.BaseID >= 0 {
		return o.BaseID, nil
	}
	files, err := filepath.Glob(filepath.Join(directory, "hot-*.shm"))
	if err != nil {
		return 0, err
	}
	var bases []int
	for _, f := range files {
		text := strings.TrimSuffix(strings.TrimPrefix(filepath.Base(f), "hot-"), ".shm")
		n, err := strconv.Atoi(text)
		if err != nil {
			continue
		}
		bases = append(bases, n)
		if o.MainPID != 0 && serves(f, o.MainPID) {
			return n, nil
		}
	}
	switch len(bases) {
	case 0:
		return 0, &absent{fmt.Sprintf("no running belayd in %s", directory)}
	case 1:
		return bases[0], nil
	}
	return 0, fmt.Errorf("several base ids in %s: %v; name one with --base-id", directory, bases)
}

func serves(path string, pid int) bool {
	seg, err := shm.Attach(path)
	if err != nil {
		return false
	}
	defer seg.Close()
	for _, p := range seg.Processes() {
		if p.PID == pid {
			return true
		}
	}
	return false
}
