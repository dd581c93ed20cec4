package accesslog

import "sync/atomic"

const (
	// batchSize is when a batch is handed over, in bytes.
	batchSize = 32 << 10
	// batchRoom is the capacity of a batch: what the last line may need beyond.
	batchRoom = batchSize + 4<<10
	// spareBatches are kept for a worker; what a backlog took beyond is freed.
	spareBatches = 4
)

// batch is a number of whole lines on their way to the writer.
type batch struct {
	data  []byte
	lines uint64
	next  *batch // in Log.queue: the one handed over before
	owner *Buffer
}

// borrowed is what Buffer.parked holds while the worker has taken a batch back.
var borrowed = new(batch)

// Buffer is where one worker puts its lines; only that worker uses it.
//
// Between two turns the batch is parked: the writer takes it when its time has
// come, even if the worker sleeps. A worker that has more lines takes it back
// first. No lock is involved: whoever swaps the pointer out has the batch.
//
//	       Append            Flush                   sweep
//	nil  ---------> (own)  ---------> parked batch  ------> nil, written
//	                  ^------------------'  Append, leaves borrowed
type Buffer struct {
	log   *Log
	batch *batch // the worker's; nil if parked or empty
	line  line
	since int64 // loop time of the first Flush of the batch, ns; 0: none yet

	parked atomic.Pointer[batch] // nil, borrowed, or a batch that is anyone's
	left   bool                  // the worker parked a batch and has not looked since
	spare  chan *batch           // written batches, for use again
}

// Buffer makes the buffer of one worker.
func (l *Log) Buffer() *Buffer {
	b := &Buffer{log: l, line: line{json: l.program.json}, spare: make(chan *batch, spareBatches)}
	l.mu.Lock()
	l.buffers = append(l.buffers, b)
	l.mu.Unlock()
	return b
}

// Append adds the line of r. It never blocks: if more than QueueSize bytes wait
// for the writer, the batch that is full is dropped and its lines are counted.
func (b *Buffer) Append(r *Record) {
	t := b.batch
	if t == nil {
		t = b.obtain()
	}
	t.data = b.log.program.run(t.data, &b.line, r)
	t.lines++
	if len(t.data) >= batchSize {
		b.handOver()
	}
}

// obtain makes a batch the worker's: the parked one if it is still there.
func (b *Buffer) obtain() *batch {
	if b.left {
		b.left = false
		if b.batch = b.parked.Swap(borrowed); b.batch != nil {
			return b.batch
		}
		b.parked.Store(nil)
	}
	b.since = 0
	select {
	case b.batch = <-b.spare:
	default:
		b.batch = &batch{data: make([]byte, 0, batchRoom), owner: b}
	}
	return b.batch
}

// handOver gives the batch to the writer, or drops it.
func (b *Buffer) handOver() {
	l, t := b.log, b.batch
	b.parked.Store(nil)
	b.since = 0
	n := int64(len(t.data))
	if l.queued.Add(n) > l.cfg.QueueSize {
		l.queued.Add(-n)
		l.dropped.Add(t.lines)
		t.reset()
		return
	}
	b.batch = nil
	l.push(t)
}

func (t *batch) reset() { t.data, t.lines, t.next = t.data[:0], 0, nil }

// push puts a batch on the queue.
func (l *Log) push(t *batch) {
	for {
		t.next = l.queue.Load()
		if l.queue.CompareAndSwap(t.next, t) {
			break
		}
	}
	l.signal()
}

// Flush is called at the end of every turn, with the time in ns. It hands over a
// batch older than FlushInterval, unless others wait already: then it may as well
// grow. A younger one is parked.
func (b *Buffer) Flush(now int64) {
	t := b.batch
	if t == nil || t.lines == 0 {
		return
	}
	first := b.since == 0
	if first {
		b.since = now
	}
	if now-b.since >= int64(b.log.cfg.FlushInterval) && b.log.queued.Load() == 0 {
		b.handOver()
		return
	}
	b.batch, b.left = nil, true
	b.parked.Store(t)
	if first {
		b.log.signal()
	}
}

// take is for the writer: the batch if it is parked, else nil.
func (b *Buffer) take() *batch {
	t := b.parked.Load()
	if t == nil || t == borrowed || !b.parked.CompareAndSwap(t, nil) {
		return nil
	}
	return t
}

// giveBack returns a written batch to its worker, or leaves it to the collector:
// one that grew for a huge line, or one of a backlog.
func (t *batch) giveBack() {
	if cap(t.data) > 2*batchRoom {
		return
	}
	t.reset()
	select {
	case t.owner.spare <- t:
	default:
	}
}
