package accesslog

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// opened is a log whose errors end up in a channel.
func opened(t testing.TB, c Config) (*Log, chan error) {
	t.Helper()
	if c.Format == "" {
		c.Format = "%{connection} %{attempts}"
	}
	if c.QueueSize == 0 {
		c.QueueSize = 4 << 20
	}
	if c.FlushInterval == 0 {
		c.FlushInterval = time.Millisecond
	}
	errs := make(chan error, 100)
	l, err := New(c, func(err error) { errs <- err })
	if err != nil {
		t.Fatal(err)
	}
	return l, errs
}

// fifo makes a named pipe and holds it open, so that nobody's opening it waits.
func fifo(t testing.TB) (path string, f *os.File) {
	t.Helper()
	path = filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = f.Close() })
	return path, f
}

func countLines(t testing.TB, paths ...string) (n int) {
	t.Helper()
	for _, p := range paths {
		data, err := os.ReadFile(p)
		if err != nil {
			t.Fatal(err)
		}
		if len(data) > 0 && data[len(data)-1] != '\n' {
			t.Errorf("%s ends within a line", p)
		}
		n += bytes.Count(data, []byte{'\n'})
	}
	return n
}

func mustClose(t testing.TB, l *Log) {
	t.Helper()
	if err := l.Close(); err != nil {
		t.Errorf("close: %v", err)
	}
}

func TestNewRefuses(t *testing.T) {
	if _, err := New(Config{Output: filepath.Join(t.TempDir(), "missing", "log"), Format: "json"}, nil); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("missing folder: %v", err)
	}
	if _, err := New(Config{Output: filepath.Join(t.TempDir(), "log"), Format: "%{x}"}, nil); err == nil || err.Error()[:17] != "format: column 1:" {
		t.Errorf("bad format: %v", err)
	}
}

func TestFileIsAppendedTo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	for i := range 2 {
		l, _ := opened(t, Config{Output: path})
		b := l.Buffer()
		b.Append(&Record{ConnID: uint64(i)})
		mustClose(t, l) // no Flush came before
		if l.Lines() != 1 || l.Dropped() != 0 || l.queued.Load() != 0 {
			t.Errorf("%d lines, %d dropped, %d bytes queued", l.Lines(), l.Dropped(), l.queued.Load())
		}
	}
	data, err := os.ReadFile(path)
	if string(data) != "0 0\n1 0\n" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
	if st, err := os.Stat(path); err != nil || st.Mode().Perm()&^0o640 != 0 {
		t.Errorf("%v, %v", st.Mode(), err)
	}
}

func TestClosedLogRefuses(t *testing.T) {
	l, _ := opened(t, Config{Output: filepath.Join(t.TempDir(), "log")})
	mustClose(t, l)
	if err := l.Close(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("second Close: %v", err)
	}
	if err := l.Reopen(); !errors.Is(err, os.ErrClosed) {
		t.Errorf("Reopen: %v", err)
	}
}

func TestStderrStaysOpen(t *testing.T) {
	l, _ := opened(t, Config{Output: "stderr"})
	if err := l.Reopen(); err != nil {
		t.Error(err)
	}
	mustClose(t, l)
	if _, err := os.Stderr.Stat(); err != nil {
		t.Error(err)
	}
}

// A worker that sleeps after its last turn need not wake for its lines to come out.
func TestParkedLinesAreWrittenWithoutTheWorker(t *testing.T) {
	path, f := fifo(t)
	l, _ := opened(t, Config{Output: path})
	lines := bufio.NewReader(f)
	a, b := l.Buffer(), l.Buffer()
	for i := range 50 {
		w := a
		if i%3 == 0 {
			w = b
		}
		w.Append(&Record{ConnID: uint64(i)})
		w.Flush(int64(i))
		if line, err := lines.ReadString('\n'); line != fmt.Sprintf("%d 0\n", i) || err != nil {
			t.Fatalf("%q, %v", line, err)
		}
	}
	mustClose(t, l)
}

func TestFlushHandsOverOldBatch(t *testing.T) {
	path, f := fifo(t)
	l, _ := opened(t, Config{Output: path, FlushInterval: time.Hour})
	b := l.Buffer()
	for now := int64(1); now <= 3; now++ {
		b.Append(&Record{ConnID: uint64(now)})
		b.Flush(now)
		if b.parked.Load() == nil {
			t.Fatalf("not parked at %d", now)
		}
	}
	b.Append(&Record{ConnID: 4})
	b.Flush(1 + int64(time.Hour))
	got := make([]byte, len("1 0\n2 0\n3 0\n4 0\n"))
	if _, err := io.ReadFull(f, got); string(got) != "1 0\n2 0\n3 0\n4 0\n" || err != nil {
		t.Errorf("%q, %v", got, err)
	}
	mustClose(t, l)
}

// Several workers at once: nothing is lost, every line is whole, and the lines
// of each worker keep their order.
func TestWorkersAtOnce(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, _ := opened(t, Config{Output: path, QueueSize: 1 << 30})
	const workers, each = 4, 20_000
	var wg sync.WaitGroup
	for w := range workers {
		b := l.Buffer()
		wg.Go(func() {
			for i := range each {
				b.Append(&Record{ConnID: uint64(w), Attempts: i})
				if i%(w+1) == 0 {
					b.Flush(time.Now().UnixNano())
				}
			}
			b.Flush(time.Now().UnixNano())
		})
	}
	wg.Wait()
	mustClose(t, l)
	if l.Lines() != workers*each || l.Dropped() != 0 || l.queued.Load() != 0 {
		t.Errorf("%d lines, %d dropped, %d bytes queued", l.Lines(), l.Dropped(), l.queued.Load())
	}
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	var next [workers]int
	for s := bufio.NewScanner(f); s.Scan(); {
		var w, i int
		if n, err := fmt.Sscanf(s.Text(), "%d %d", &w, &i); n != 2 || err != nil || i != next[w] {
			t.Fatalf("%q where line %d of a worker was due, %v", s.Text(), next[w], err)
		}
		next[w]++
	}
	for w, n := range next {
		if n != each {
			t.Errorf("worker %d: %d lines", w, n)
		}
	}
}

func TestSlowReaderNeverBlocks(t *testing.T) {
	path, f := fifo(t)
	l, _ := opened(t, Config{Output: path, Format: "json", QueueSize: 128 << 10})
	b := l.Buffer()
	r := sample()
	const appended = 20_000 // 9 MB into a pipe that holds 64 KiB
	for i := range appended {
		b.Append(r)
		b.Flush(int64(i) * int64(time.Millisecond))
	}
	if l.queued.Load() > 128<<10 {
		t.Errorf("%d bytes queued", l.queued.Load())
	}
	if err := l.Close(); err == nil {
		t.Error("Close says that all was written")
	}
	if l.Dropped() == 0 || l.Lines()+l.Dropped() != appended {
		t.Errorf("%d lines + %d dropped, want %d", l.Lines(), l.Dropped(), appended)
	}
	if l.queued.Load() != 0 {
		t.Errorf("%d bytes still queued", l.queued.Load())
	}
	if err := f.SetReadDeadline(time.Now().Add(10 * time.Millisecond)); err != nil { // when the pipe is empty
		t.Fatal(err)
	}
	got, _ := io.ReadAll(f)
	if n := uint64(bytes.Count(got, []byte{'\n'})); n != l.Lines() {
		t.Errorf("%d lines came through, %d counted", n, l.Lines())
	}
}

// A reader that comes back finds every line that was not counted as dropped.
func TestSlowReaderComesBack(t *testing.T) {
	path, f := fifo(t)
	l, _ := opened(t, Config{Output: path, Format: "json", QueueSize: 256 << 10})
	b := l.Buffer()
	const appended = 5000
	for range appended {
		b.Append(sample())
	}
	b.Flush(1)
	var got atomic.Uint64
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		for s := bufio.NewScanner(f); s.Scan(); {
			if s.Text() == "end" {
				return
			}
			if !json.Valid(s.Bytes()) {
				t.Errorf("cut line %q", s.Text())
			}
			got.Add(1)
		}
	}()
	mustClose(t, l)
	if _, err := f.WriteString("end\n"); err != nil {
		t.Fatal(err)
	}
	<-ended
	if l.Dropped() == 0 || got.Load() != l.Lines() || l.Lines()+l.Dropped() != appended {
		t.Errorf("%d read, %d lines + %d dropped, want %d", got.Load(), l.Lines(), l.Dropped(), appended)
	}
}

func TestReopenUnderLoadLosesNothing(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "log")
	l, _ := opened(t, Config{Output: path, Format: "json", QueueSize: 1 << 30})
	stop := make(chan struct{})
	var appended atomic.Uint64
	var wg sync.WaitGroup
	for range 2 {
		b := l.Buffer()
		wg.Go(func() {
			r := sample()
			for i := 0; ; i++ {
				select {
				case <-stop:
					return
				default:
				}
				b.Append(r)
				appended.Add(1)
				if i%10 == 0 {
					b.Flush(time.Now().UnixNano())
				}
			}
		})
	}
	files := []string{path}
	for i := range 20 {
		old := fmt.Sprintf("%s.%d", path, i)
		files = append(files, old)
		for n := l.Lines(); l.Lines() == n; { // something goes into every file
			runtime.Gosched()
		}
		if err := os.Rename(path, old); err != nil {
			t.Fatal(err)
		}
		if err := l.Reopen(); err != nil {
			t.Fatal(err)
		}
	}
	close(stop)
	wg.Wait()
	mustClose(t, l)
	if n := uint64(countLines(t, files...)); n != appended.Load() || l.Lines() != n || l.Dropped() != 0 {
		t.Errorf("%d lines in the files, %d counted, %d dropped, %d appended", n, l.Lines(), l.Dropped(), appended.Load())
	}
}

func TestReopenFailureKeepsTheFile(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o700); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "log")
	l, _ := opened(t, Config{Output: path})
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("reopen: %v", err)
	}
	b := l.Buffer()
	b.Append(&Record{})
	mustClose(t, l)
	if n := countLines(t, dir+".old/log"); n != 1 {
		t.Errorf("%d lines in the old file", n)
	}
}

// A full disk is told of once, nothing that fits the queue is lost, and the end
// of the trouble is told of too.
func TestFullDiskRecovers(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	if err := os.Symlink("/dev/full", path); err != nil {
		t.Fatal(err)
	}
	l, errs := opened(t, Config{Output: path})
	b := l.Buffer()
	const batches = 5
	for range batches {
		n := l.Errors()
		for range 1000 {
			b.Append(sample())
		}
		b.handOver()
		for l.Errors() == n { // each batch is tried
			runtime.Gosched()
		}
	}
	if err := <-errs; !errors.Is(err, syscall.ENOSPC) {
		t.Errorf("told %v", err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil {
		t.Fatal(err)
	}
	if err := <-errs; err == nil || errors.Is(err, syscall.ENOSPC) {
		t.Errorf("told %v", err)
	}
	mustClose(t, l)
	if len(errs) != 0 {
		t.Errorf("told too much: %v", <-errs)
	}
	if n := countLines(t, path); n != batches*1000 || l.Lines() != batches*1000 || l.Dropped() != 0 {
		t.Errorf("%d lines in the file, %d counted, %d dropped", n, l.Lines(), l.Dropped())
	}
}

func TestFullDiskBoundsTheQueue(t *testing.T) {
	l, errs := opened(t, Config{Output: "/dev/full", QueueSize: 64 << 10})
	b := l.Buffer()
	const appended = 100_000
	for i := range appended {
		b.Append(&Record{})
		b.Flush(int64(i))
	}
	if err := l.Close(); err == nil {
		t.Error("Close says that all was written")
	}
	if l.Lines() != 0 || l.Dropped() != appended || l.queued.Load() != 0 {
		t.Errorf("%d lines, %d dropped, %d bytes queued", l.Lines(), l.Dropped(), l.queued.Load())
	}
	if err := <-errs; !errors.Is(err, syscall.ENOSPC) || len(errs) != 0 {
		t.Errorf("told %v and %d more", err, len(errs))
	}
}

// The old file took a part of a line: the new one gets the line whole.
func TestReopenAfterPartialLine(t *testing.T) {
	dir := t.TempDir()
	old, err := os.Create(filepath.Join(dir, "old"))
	if err != nil {
		t.Fatal(err)
	}
	next, err := os.Create(filepath.Join(dir, "new"))
	if err != nil {
		t.Fatal(err)
	}
	l := &Log{onError: func(err error) { t.Error(err) }}
	w := &l.writer
	w.log = l
	w.file.Store(old)
	t1 := &batch{data: []byte("one\ntwo\nthree\n"), lines: 3}
	l.queued.Store(int64(len(t1.data)))
	w.account(t1, len("one\ntw"))
	l.next.Store(next)
	if !w.writeBatch(t1) || l.Lines() != 3 || l.queued.Load() != 0 {
		t.Errorf("%d lines, %d bytes queued", l.Lines(), l.queued.Load())
	}
	if data, err := os.ReadFile(next.Name()); string(data) != "two\nthree\n" || err != nil {
		t.Errorf("%q, %v", data, err)
	}
}

// A line larger than the queue is dropped, others go on.
func TestHugeLine(t *testing.T) {
	path := filepath.Join(t.TempDir(), "log")
	l, _ := opened(t, Config{Output: path, Format: "%{path}", QueueSize: 64 << 10})
	b := l.Buffer()
	b.Append(&Record{Path: bytes.Repeat([]byte{0}, 64<<10)})
	b.Append(&Record{Path: []byte("/")})
	mustClose(t, l)
	if l.Dropped() != 1 || countLines(t, path) != 1 {
		t.Errorf("%d dropped, %d lines in the file", l.Dropped(), countLines(t, path))
	}
}

// announcedLock tells of every attempt to lock it.
type announcedLock struct {
	sync.Mutex
	attempts chan struct{}
}

func (l *announcedLock) Lock() {
	l.attempts <- struct{}{}
	l.Mutex.Lock()
}

func TestLockIsHeldForEachBatchAndReopen(t *testing.T) {
	lock := &announcedLock{attempts: make(chan struct{}, 100)}
	lock.Mutex.Lock()
	path := filepath.Join(t.TempDir(), "log")
	l, _ := opened(t, Config{Output: path, Lock: lock})
	b := l.Buffer()
	b.Append(&Record{})
	b.handOver()
	<-lock.attempts
	if err := os.Rename(path, path+".old"); err != nil {
		t.Fatal(err)
	}
	if err := l.Reopen(); err != nil { // does not wait for the lock
		t.Fatal(err)
	}
	if n := countLines(t, path, path+".old"); n != 0 {
		t.Errorf("%d lines without the lock", n)
	}
	lock.Unlock()
	mustClose(t, l)
	if n := countLines(t, path); n != 1 { // the file is looked up under the lock
		t.Errorf("%d lines in the new file", n)
	}
}

func TestAppendDoesNotAllocate(t *testing.T) {
	l, _ := opened(t, Config{Output: os.DevNull, Format: "json", QueueSize: 1 << 30})
	b, r := l.Buffer(), sample()
	now := int64(0)
	turn := func() {
		now += 10_000
		r.Start = r.Start.Add(10 * time.Microsecond)
		b.Append(r)
		b.Flush(now)
	}
	for range 1000 {
		turn()
	}
	if n := testing.AllocsPerRun(10_000, turn); n != 0 {
		t.Errorf("%v allocations", n)
	}
	mustClose(t, l)
}
