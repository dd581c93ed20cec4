package accesslog

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Config says where the lines go and what they look like.
type Config struct {
	Output        string        // "stderr" or the path of a file
	Format        string        // "json" or a format, see the package comment
	QueueSize     int64         // bytes that wait for the writer at most
	FlushInterval time.Duration // a line waits for others about this long at most

	// Lock, if set, is held while a batch is written, and while Reopen has the
	// file changed.
	Lock sync.Locker
}

// Log is an open access log.
type Log struct {
	cfg     Config
	program *program
	onError func(error)

	queued  atomic.Int64 // bytes handed over and not yet written or given up
	lines   atomic.Uint64
	dropped atomic.Uint64
	errors  atomic.Uint64
	queue   atomic.Pointer[batch] // handed over, newest first
	wake    chan struct{}         // one token: there is something for the writer
	next    atomic.Pointer[os.File]

	mu      sync.Mutex // guards buffers and closed
	buffers []*Buffer
	closed  bool

	closing chan struct{} // closed by Close
	done    chan struct{} // closed by the writer when it ends
	writer  writer        // the writer goroutine's own
}

// New opens the log and starts its writer. A file is made with mode 0640 and
// always appended to. onError is called by the writer, so it must not wait for
// the log: when writing begins to fail, and when it works again.
func New(c Config, onError func(error)) (*Log, error) {
	p, err := compile(c.Format)
	if err != nil {
		return nil, fmt.Errorf("format: %w", err)
	}
	f, err := open(c.Output)
	if err != nil {
		return nil, err
	}
	l := &Log{
		cfg: c, program: p, onError: onError,
		wake: make(chan struct{}, 1), closing: make(chan struct{}), done: make(chan struct{}),
	}
	l.writer.log = l
	l.writer.file.Store(f)
	go l.writer.run()
	return l, nil
}

// stderr is the output that is no file.
const stderr = "stderr"

func open(output string) (*os.File, error) {
	if output == stderr {
		return os.Stderr, nil
	}
	return os.OpenFile(output, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
}

// Reopen opens the file by its name again, for when it was renamed; on an error
// the old one stays in use. It does not wait for the writer: at most the batch
// that is being written still goes to the old file.
func (l *Log) Reopen() error {
	if l.cfg.Output == stderr {
		return nil
	}
	f, err := open(l.cfg.Output)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return errors.Join(os.ErrClosed, f.Close())
	}
	if unused := l.next.Swap(f); unused != nil {
		_ = unused.Close() // nothing was written to it
	}
	l.signal()
	return nil
}

// signal has the writer look.
func (l *Log) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// Lines is how many lines were written.
func (l *Log) Lines() uint64 { return l.lines.Load() }

// Dropped is how many lines were given up: because QueueSize bytes waited, or
// because they could not be written until the end.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Errors is how many writes failed. What they did not write is tried again.
func (l *Log) Errors() uint64 { return l.errors.Load() }

// closeWait is how long Close waits for a file that takes nothing.
const closeWait = 2 * time.Second

// Close writes what is left and closes the file. The workers must have ended:
// it takes the lines in their buffers. After two seconds what is still not
// written counts as dropped; if not even that can be done, because the file is
// neither written nor interrupted, Close returns and leaves it alone.
func (l *Log) Close() error {
	l.mu.Lock()
	if l.closed {
		l.mu.Unlock()
		return os.ErrClosed
	}
	l.closed = true
	l.mu.Unlock()
	close(l.closing)
	if l.wait() {
		return l.writer.closeErr
	}
	// Pipes and terminals know deadlines, files do not. That of stderr would
	// hit the daemon's own log too.
	if l.cfg.Output != stderr && l.writer.file.Load().SetWriteDeadline(time.Unix(1, 0)) == nil && l.wait() {
		return l.writer.closeErr
	}
	return fmt.Errorf("write %s: no progress for %v; %d bytes are lost", l.cfg.Output, closeWait, l.queued.Load())
}

// wait waits for the writer to end.
func (l *Log) wait() bool {
	patience := time.NewTimer(closeWait)
	defer patience.Stop()
	select {
	case <-l.done:
		return true
	case <-patience.C:
		return false
	}
}
