package listener

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
)

// rememberFile notes which file the bound Unix socket has.
func (l *Listener) rememberFile() error {
	p := l.Address.Unix
	if p == "" || p[0] == '@' {
		return nil
	}
	info, err := os.Lstat(p)
	if err != nil {
		return fmt.Errorf("bound socket: %w", err)
	}
	l.file = info
	return nil
}

// hasFile reports whether the file at the Unix socket's path is still the one
// that was there at Open. A number may serve again as soon as its file is gone, so
// the time at which the socket was bound must be the same too.
func (l *Listener) hasFile() bool {
	info, err := os.Lstat(l.Address.Unix)
	return err == nil && os.SameFile(info, l.file) && info.ModTime().Equal(l.file.ModTime())
}

// RemoveFile removes the file of a Unix socket, for a process that alone has it
// and gives it up; before Close, so that nobody connects who is not accepted. What
// somebody else has put there stays, and so does the file of a socket unit.
func (l *Listener) RemoveFile() error {
	if l.file == nil || !l.hasFile() {
		return nil
	}
	if err := os.Remove(l.Address.Unix); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("listener.%s: remove the socket's file: %w", l.Config.Name, err)
	}
	return nil
}
