// Package accesslog writes one line per exchange. Workers format into batches of
// whole lines; one goroutine writes them, so that a slow disk never holds a
// request up. What does not fit into the bounded queue is dropped and counted.
//
// A format is "json", or a string in which %{name} stands for a field and %% for
// a percent sign:
//
//	%{time}        start, RFC 3339 in UTC with milliseconds
//	%{time_clf}    start as the common log format has it
//	%{client}      client's address: behind trusted proxies the one they name
//	%{peer}        address and port of the connection's other end
//	%{method} %{host} %{path} %{protocol} %{user_agent} %{referer}
//	%{request_id} %{forwarded_for}
//	%{status} %{bytes_in} %{bytes_out}
//	%{duration_ms} %{connect_ms} %{first_byte_ms}   "-" if not reached
//	%{listener} %{route} %{cluster} %{endpoint}
//	%{attempts}    tries at endpoints
//	%{reason}      why belay answered or broke off by itself
//	%{conn}        number of the client's connection
//
// Text from outside is escaped: control characters, quotes, backslashes and
// bytes from 0x7f on appear as \xHH, an empty field as "-".
package accesslog

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Record is one exchange. The slices are read during Append only.
type Record struct {
	Start                              time.Time
	Duration                           int64 // ns
	UpstreamConnect, UpstreamFirstByte int64 // ns from the start of the last try; -1: not reached
	Client, Peer                       netip.AddrPort
	Listener, Route, Cluster, Endpoint string
	Method, Host, Path, Protocol       []byte
	UserAgent, Referer                 []byte
	RequestID, ForwardedFor            []byte
	Status                             int
	BytesIn, BytesOut                  int64
	Attempts                           int
	Reason                             string
	ConnID                             uint64
}

// Config says where and how.
type Config struct {
	Output        string // "stderr" or a path
	Format        string // "json" or a format string
	QueueSize     int64  // bytes that wait for the writer at most
	FlushInterval time.Duration
}

// batchSize is when a batch is handed over, in bytes.
const batchSize = 32 << 10

// Log is an open access log.
type Log struct {
	cfg     Config
	fields  []field // nil: JSON
	onError func(error)

	mu      sync.Mutex // guards file against Reopen; held around one batch
	file    *os.File
	failing bool // the last write failed and onError was told; writer only

	batches chan batch
	free    chan []byte
	reopen  chan chan error
	queued  atomic.Int64 // bytes handed over and not written
	dropped atomic.Uint64
	lines   atomic.Uint64
	done    chan struct{}
	closing sync.Once
}

type batch struct {
	data  []byte
	lines uint64
}

// New opens the log. onError is called, by the writer, when writing begins to
// fail; the lines of a batch that could not be written count as dropped.
func New(c Config, onError func(error)) (*Log, error) {
	l := &Log{
		cfg: c, onError: onError,
		batches: make(chan batch, 1024), free: make(chan []byte, 64), reopen: make(chan chan error), done: make(chan struct{}),
	}
	if c.Format != "json" {
		f, err := parse(c.Format)
		if err != nil {
			return nil, err
		}
		l.fields = f
	}
	f, err := open(c.Output)
	if err != nil {
		return nil, err
	}
	l.file = f
	go l.write()
	return l, nil
}

// Validate checks a format without opening anything.
func Validate(format string) error {
	if format == "json" {
		return nil
	}
	_, err := parse(format)
	return err
}

func open(output string) (*os.File, error) {
	if output == "stderr" {
		return os.Stderr, nil
	}
	f, err := os.OpenFile(output, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
	if err != nil {
		return nil, fmt.Errorf("open access log: %w", err)
	}
	return f, nil
}

// write is the writer goroutine.
func (l *Log) write() {
	defer close(l.done)
	for b := range l.batches {
		l.writeBatch(b)
		l.queued.Add(-int64(len(b.data)))
		select {
		case l.free <- b.data[:0]:
		default:
		}
	}
}

// writeBatch writes whole lines; os.File completes partial writes.
func (l *Log) writeBatch(b batch) {
	l.mu.Lock()
	defer l.mu.Unlock()
	_, err := l.file.Write(b.data)
	if err == nil {
		l.failing = false
		l.lines.Add(b.lines)
		return
	}
	l.dropped.Add(b.lines)
	if !l.failing {
		l.failing = true
		l.onError(fmt.Errorf("write access log: %w", err))
	}
}

// Reopen opens the file by its name again, after it was renamed; on an error the
// old one stays in use.
func (l *Log) Reopen() error {
	if l.cfg.Output == "stderr" {
		return nil
	}
	f, err := open(l.cfg.Output)
	if err != nil {
		return err
	}
	l.mu.Lock()
	old := l.file
	l.file = f
	l.mu.Unlock()
	return old.Close()
}

// Dropped is how many lines were not written.
func (l *Log) Dropped() uint64 { return l.dropped.Load() }

// Lines is how many lines were written.
func (l *Log) Lines() uint64 { return l.lines.Load() }

// closeWait is how long Close waits for a disk that does not take what is left.
const closeWait = 2 * time.Second

// Close writes what was handed over and closes the file. Buffers must not be
// used any more.
func (l *Log) Close() error {
	l.closing.Do(func() { close(l.batches) })
	select {
	case <-l.done:
	case <-time.After(closeWait):
		return errors.New("close access log: the file takes no more")
	}
	if l.cfg.Output == "stderr" {
		return nil
	}
	return l.file.Close()
}

// Buffer is one worker's batch. Only that worker uses it.
type Buffer struct {
	log   *Log
	data  []byte
	lines uint64
	since int64 // loop time at which the batch was first seen, ns; 0: empty
	clock clock
}

// Buffer makes a worker's buffer.
func (l *Log) Buffer() *Buffer { return &Buffer{log: l} }

// Append adds one line. It does not block.
func (b *Buffer) Append(r *Record) {
	if b.data == nil {
		b.data = b.log.take()
	}
	if b.log.fields == nil {
		b.data = b.appendJSON(b.data, r)
	} else {
		b.data = b.appendText(b.data, r)
	}
	b.lines++
	if len(b.data) >= batchSize {
		b.hand()
	}
}

// take reuses a batch that was written.
func (l *Log) take() []byte {
	select {
	case p := <-l.free:
		return p
	default:
		return make([]byte, 0, batchSize+4<<10)
	}
}

// Flush hands the batch over when it is older than the flush interval. The
// worker calls it at the end of every turn, with its time in ns.
func (b *Buffer) Flush(now int64) {
	switch {
	case b.lines == 0:
		b.since = 0
	case b.since == 0:
		b.since = now
	case now-b.since >= int64(b.log.cfg.FlushInterval):
		b.hand()
	}
}

// Waiting reports whether lines wait for a Flush, which needs a turn to come.
func (b *Buffer) Waiting() bool { return b.lines > 0 }

// Hand gives the batch over now.
func (b *Buffer) Hand() {
	if b.lines > 0 {
		b.hand()
	}
}

func (b *Buffer) hand() {
	l := b.log
	n := int64(len(b.data))
	if l.queued.Add(n) <= l.cfg.QueueSize {
		select {
		case l.batches <- batch{b.data, b.lines}:
			b.data, b.lines, b.since = nil, 0, 0
			return
		default:
		}
	}
	l.queued.Add(-n)
	l.dropped.Add(b.lines)
	b.data, b.lines, b.since = b.data[:0], 0, 0
}
