package systemd

import (
	"fmt"

	"golang.org/x/sys/unix"
)

// OpenDirectory opens a directory as a place to look things up from: O_PATH, so
// that whoever is given the descriptor needs no right to the path (open(2)). The
// descriptor is the caller's.
func OpenDirectory(path string) (fd int, err error) {
	fd, err = unix.Open(path, unix.O_PATH|unix.O_DIRECTORY|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open %s: %w", path, err)
	}
	return fd, nil
}
