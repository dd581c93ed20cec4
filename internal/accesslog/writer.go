package accesslog

import (
	"bytes"
	"fmt"
	"os"
	"slices"
	"sync/atomic"
	"time"
)

// writer is the goroutine that writes. What it cannot write it keeps and tries
// again with the next batch, or after retryInterval; meanwhile the queue fills up
// and the workers drop.
type writer struct {
	log     *Log
	file    atomic.Pointer[os.File] // stored by the writer only
	pending []*batch                // to be written, oldest first
	offset  int                     // bytes of pending[0] that are written
	failing bool                    // onError was told

	closeErr error // for Close, once Log.done is closed
}

// retryInterval is how long after a failed write the next one is tried if no
// batch comes before.
const retryInterval = time.Second

func (w *writer) run() {
	defer close(w.log.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	armed := true
	for {
		due := false
		select {
		case <-w.log.closing:
			w.finish()
			return
		case <-w.log.wake:
		case <-timer.C:
			armed, due = false, true
		}
		w.collect()
		w.write()
		if due && len(w.pending) == 0 {
			w.sweep(false)
			w.write()
		}
		if wait := w.wait(); wait > 0 && !armed {
			timer.Reset(wait)
			armed = true
		}
	}
}

// wait tells when to try again or to sweep; 0: not before a wake.
func (w *writer) wait() time.Duration {
	if len(w.pending) > 0 {
		return retryInterval
	}
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for _, b := range w.log.buffers {
		if b.parked.Load() != nil {
			return max(w.log.cfg.FlushInterval, time.Millisecond)
		}
	}
	return 0
}

// collect moves the queue to pending.
func (w *writer) collect() {
	at := len(w.pending)
	for t := w.log.queue.Swap(nil); t != nil; {
		w.pending = append(w.pending, t)
		t, t.next = t.next, nil
	}
	for i, k := at, len(w.pending)-1; i < k; i, k = i+1, k-1 {
		w.pending[i], w.pending[k] = w.pending[k], w.pending[i]
	}
}

// sweep takes the batches that are parked; at the end, when no worker runs, also
// those that are not.
func (w *writer) sweep(end bool) {
	w.log.mu.Lock()
	defer w.log.mu.Unlock()
	for _, b := range w.log.buffers {
		t := b.take()
		if t == nil && end {
			t, b.batch = b.batch, nil
		}
		if t == nil || t.lines == 0 {
			continue
		}
		w.collect() // what the worker handed over before it parked this one
		w.log.queued.Add(int64(len(t.data)))
		w.pending = append(w.pending, t)
	}
}

// write writes what is pending, until an error.
func (w *writer) write() {
	done := 0
	for done < len(w.pending) && w.writeBatch(w.pending[done]) {
		w.pending[done].giveBack()
		w.pending[done] = nil
		done++
	}
	w.pending = slices.Delete(w.pending, 0, done)
	if w.log.next.Load() != nil && len(w.pending) == 0 {
		w.lock()
		w.change()
		w.unlock()
	}
}

func (w *writer) lock() {
	if l := w.log.cfg.Lock; l != nil {
		l.Lock()
	}
}

func (w *writer) unlock() {
	if l := w.log.cfg.Lock; l != nil {
		l.Unlock()
	}
}

// writeBatch writes the rest of a batch in one go, to the file that Reopen opened
// if it did. Here and in write, both under Config.Lock, is all that touches the
// file while the log is open.
func (w *writer) writeBatch(t *batch) bool {
	w.lock()
	defer w.unlock()
	if w.change() {
		// A line is never split over two files: the new one gets the whole of
		// what the old one took a part of.
		whole := bytes.LastIndexByte(t.data[:w.offset], '\n') + 1
		w.log.queued.Add(int64(w.offset - whole))
		w.offset = whole
	}
	n, err := w.file.Load().Write(t.data[w.offset:]) // completes partial writes
	w.account(t, n)
	if err != nil {
		w.log.errors.Add(1)
		w.report(err)
		return false
	}
	w.offset = 0
	w.report(nil)
	return true
}

// account counts n written bytes and the lines that they end.
func (w *writer) account(t *batch, n int) {
	before := w.offset
	w.offset += n
	w.log.queued.Add(-int64(n))
	if before == 0 && w.offset == len(t.data) {
		w.log.lines.Add(t.lines)
		return
	}
	w.log.lines.Add(uint64(bytes.Count(t.data[before:w.offset], []byte{'\n'})))
}

// change takes the file that Reopen opened, if there is one.
func (w *writer) change() bool {
	f := w.log.next.Swap(nil)
	if f == nil {
		return false
	}
	if err := w.file.Swap(f).Close(); err != nil {
		w.report(err)
	}
	return true
}

// report tells onError when writing begins to fail and when it works again.
func (w *writer) report(err error) {
	switch {
	case err != nil && !w.failing:
		w.log.onError(err)
	case err == nil && w.failing:
		w.log.onError(fmt.Errorf("write %s: works again; %d lines were dropped since the start", w.log.cfg.Output, w.log.dropped.Load()))
	}
	w.failing = err != nil
}

// finish writes what is left, gives up the rest, and closes the file.
func (w *writer) finish() {
	w.collect()
	w.sweep(true)
	w.write()
	for i, t := range w.pending {
		rest := t.data
		if i == 0 {
			rest = rest[w.offset:]
		}
		w.log.dropped.Add(uint64(bytes.Count(rest, []byte{'\n'})))
		w.log.queued.Add(-int64(len(rest)))
	}
	if len(w.pending) > 0 {
		w.closeErr = fmt.Errorf("write %s: lines that could not be written are lost", w.log.cfg.Output)
		w.pending = nil
	}
	if f := w.log.next.Swap(nil); f != nil {
		_ = f.Close() // nothing was written to it
	}
	if w.log.cfg.Output == stderr {
		return
	}
	if err := w.file.Load().Close(); err != nil {
		w.closeErr = err
	}
}
