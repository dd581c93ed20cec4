package server

import (
	"os"
	"sync"
	"sync/atomic"

	"belay/internal/hotrestart"
)

// logOutput is where the log goes. Generations that write to the same file do so
// one after another, so that no line ends up in the middle of another's.
type logOutput struct {
	w    *os.File
	lock atomic.Pointer[sync.Locker] // nil: nobody else writes there
}

// share has the output take the segment's lock if it is a file. A pipe, a terminal
// and the journal take a line as a whole.
func (o *logOutput) share(n *hotrestart.Node) {
	info, err := o.w.Stat()
	if n == nil || err != nil || !info.Mode().IsRegular() {
		return
	}
	lock := n.Segment().LogLock()
	o.lock.Store(&lock)
}

func (o *logOutput) Write(b []byte) (int, error) {
	if lock := o.lock.Load(); lock != nil {
		(*lock).Lock()
		defer (*lock).Unlock()
	}
	return o.w.Write(b)
}
