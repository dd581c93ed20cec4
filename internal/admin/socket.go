package admin

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// maxSocketPath is what fits into sun_path with its end (unix(7)).
const maxSocketPath = 107

// probeTimeout bounds the question whether somebody listens on a socket file. A
// Unix connect never waits for a network, only for a full backlog.
const probeTimeout = time.Second

// listenUnix listens on a new socket of mode 0600 at path.
//
//  1. The socket is made inside a new directory of mode 0700 beside path, so
//     nobody else can reach it while it has the mode that umask gave it; umask
//     itself belongs to the whole process and other files are being made.
//  2. It is linked to path, which fails if anything is there.
//  3. What is there is asked: a listener is an error; a socket that refuses is
//     removed and the link tried again. See clearStale.
//
// The caller owns the listener, which leaves the file when it is closed, and
// removes the file.
func listenUnix(path string) (net.Listener, socketFile, error) {
	ln, file, err := bindUnix(path)
	if err != nil {
		return nil, socketFile{}, fmt.Errorf("listen on %s: %w", path, err)
	}
	return ln, file, nil
}

func bindUnix(path string) (net.Listener, socketFile, error) {
	none := socketFile{}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".") // mode 0700
	if err != nil {
		return nil, none, cause(err)
	}
	defer os.RemoveAll(dir)
	// The kernel goes on to show the name of the bind, so it tells what this is.
	hidden := filepath.Join(dir, filepath.Base(path))
	if len(hidden) > maxSocketPath {
		return nil, none, fmt.Errorf("the path is %d bytes long; the admin socket takes %d", len(path), maxSocketPath-len(hidden)+len(path))
	}
	ln, err := net.ListenUnix("unix", &net.UnixAddr{Name: hidden, Net: "unix"})
	if err != nil {
		return nil, none, cause(err)
	}
	ln.SetUnlinkOnClose(false)
	info, err := publish(hidden, path)
	if err != nil {
		ln.Close()
		return nil, none, err
	}
	return &named{ln, net.UnixAddr{Name: path, Net: "unix"}}, socketFile{path, info}, nil
}

// publish gives the socket hidden its mode and its name.
func publish(hidden, path string) (fs.FileInfo, error) {
	if err := os.Chmod(hidden, 0o600); err != nil {
		return nil, cause(err)
	}
	info, err := os.Lstat(hidden)
	if err != nil {
		return nil, cause(err)
	}
	for {
		err := os.Link(hidden, path)
		if err == nil {
			return info, nil
		}
		if !errors.Is(err, fs.ErrExist) {
			return nil, cause(err)
		}
		if err := clearStale(path, hidden); err != nil {
			return nil, err
		}
	}
}

// clearStale removes the socket file at path if nobody listens on it. Of several
// starting processes only one may do that, or the second removes what the first
// has put there. It is the one whose socket, hidden, has the name claim; who dies
// with it leaves a socket that refuses, like any other.
func clearStale(path, hidden string) error {
	claim := filepath.Join(filepath.Dir(path), "."+filepath.Base(path)+".new")
	for {
		err := os.Link(hidden, claim)
		if err == nil {
			break
		}
		if !errors.Is(err, fs.ErrExist) {
			return cause(err)
		}
		if err := discardStale(claim, hidden+".old"); err != nil {
			return err
		}
	}
	defer os.Remove(claim)
	return discardStale(path, hidden+".old")
}

// discardStale removes the socket file at path by way of aside. It is an error if
// somebody listens on it, and none if there is nothing.
func discardStale(path, aside string) error {
	asked, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return cause(err)
	}
	if asked.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file that is not a socket")
	}
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	switch {
	case err == nil:
		conn.Close()
		return fmt.Errorf("another process listens there: %w", syscall.EADDRINUSE)
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case !errors.Is(err, syscall.ECONNREFUSED):
		return fmt.Errorf("another process may listen there: %w", cause(err))
	}
	return discard(path, aside, asked)
}

// discard removes the file at path, unless it is no longer the one that was asked:
// it is moved to aside first and goes back if it is another's.
func discard(path, aside string, asked fs.FileInfo) error {
	if err := os.Rename(path, aside); err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			return nil
		}
		return cause(err)
	}
	moved, err := os.Lstat(aside)
	if err == nil && !os.SameFile(asked, moved) {
		err = os.Link(aside, path)
	}
	if err != nil && !errors.Is(err, fs.ErrExist) {
		return cause(err)
	}
	return os.Remove(aside)
}

// refuses reports whether nobody listens on the socket file at path.
func refuses(path string) bool {
	conn, err := net.DialTimeout("unix", path, probeTimeout)
	if err == nil {
		conn.Close()
	}
	return errors.Is(err, syscall.ECONNREFUSED)
}

// named is a listener with the address that clients use.
type named struct {
	net.Listener
	addr net.UnixAddr
}

// Addr is where clients find the socket.
func (n *named) Addr() net.Addr { return &n.addr }

// cause strips the paths from err, which are of files nobody knows of.
func cause(err error) error {
	var no syscall.Errno
	if errors.As(err, &no) {
		return no
	}
	return err
}
