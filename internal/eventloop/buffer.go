package eventloop

import "time"

// buffers keeps free buffers by size class, last in first out, so that the one
// that is still in the processor's cache is used next.
type buffers struct {
	classes [len(classSizes)]class
	inUse   int64 // bytes lent
	free    int64 // bytes in the free lists
	limit   int64 // of free
	w       *Worker
	timer   Timer // next trim; armed while something is free
}

type class struct {
	list [][]byte
	low  int // fewest that were free since the last trim
}

// classSizes are the sizes lent: heads of requests, bodies, and full reads.
var classSizes = [...]int{4 << 10, 16 << 10, 64 << 10}

// trimPeriod is how long a buffer must have been of no use before it is given up.
const trimPeriod = int64(10 * time.Second)

func (b *buffers) start(w *Worker, limit int64) { b.w, b.limit = w, limit }

// classOf is the smallest class that holds n bytes; -1 if none does.
func classOf(n int) int {
	for i, size := range classSizes {
		if n <= size {
			return i
		}
	}
	return -1
}

// Get lends a buffer of at least n bytes; its length is that of its class, 4, 16
// or 64 KiB, or n itself when n is larger. What is in it is undefined. It is the
// borrower's until Put.
func (w *Worker) Get(n int) []byte {
	b := &w.buffers
	i := classOf(n)
	if i < 0 {
		b.inUse += int64(n)
		return make([]byte, n)
	}
	size := classSizes[i]
	b.inUse += int64(size)
	c := &b.classes[i]
	last := len(c.list) - 1
	if last < 0 {
		return make([]byte, size)
	}
	p := c.list[last]
	c.list[last] = nil
	c.list = c.list[:last]
	c.low = min(c.low, last)
	b.free -= int64(size)
	return p
}

// Put takes back what Get lent: the same slice or one that begins where it
// begins. The caller keeps no slice of it.
func (w *Worker) Put(p []byte) {
	b := &w.buffers
	p = p[:cap(p)]
	size := int64(len(p))
	b.inUse -= size
	i := classOf(len(p))
	if i < 0 || len(p) != classSizes[i] || b.free+size > b.limit {
		return
	}
	b.free += size
	b.classes[i].list = append(b.classes[i].list, p)
	if !b.timer.Armed() {
		w.SetTimer(&b.timer, b, w.now+trimPeriod)
	}
}

// BufferStats tells how many bytes are lent and how many are kept free.
func (w *Worker) BufferStats() (inUse, free int64) { return w.buffers.inUse, w.buffers.free }

// HandleTimer gives up the buffers that nobody needed in the period that ends.
// While nothing is free no timer runs, so an idle worker sleeps on.
func (b *buffers) HandleTimer(t *Timer) {
	for i := range b.classes {
		c := &b.classes[i]
		kept := copy(c.list, c.list[c.low:])
		clear(c.list[kept:])
		b.free -= int64(c.low * classSizes[i])
		c.list = c.list[:kept]
		c.low = kept
	}
	if b.free > 0 {
		b.w.SetTimer(t, b, b.w.now+trimPeriod)
	}
}
