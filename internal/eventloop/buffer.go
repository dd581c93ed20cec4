package eventloop

import "time"

// buffers keeps free buffers by size class, last in first out, so that the one
// that is still in the cache is used next.
type buffers struct {
	classes [len(classSizes)]class
	free    int64 // bytes in the free lists
	inUse   int64
	limit   int64
	trimAt  int64
}

type class struct {
	list [][]byte
	low  int // fewest that were free since the last trim
}

var classSizes = [...]int{4 << 10, 16 << 10, 64 << 10}

// trimPeriod is how long a buffer must have been of no use before it is given up.
const trimPeriod = int64(10 * time.Second)

func classOf(n int) int {
	for i, size := range classSizes {
		if n <= size {
			return i
		}
	}
	return -1
}

// Get lends a buffer of at least n bytes; its length is its whole size. What is
// in it is undefined.
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
	k := len(c.list) - 1
	if k < 0 {
		return make([]byte, size)
	}
	p := c.list[k]
	c.list[k] = nil
	c.list = c.list[:k]
	c.low = min(c.low, k)
	b.free -= int64(size)
	return p
}

// Put takes back a buffer that Get lent; the caller keeps no slice of it.
func (w *Worker) Put(p []byte) {
	b := &w.buffers
	p = p[:cap(p)]
	b.inUse -= int64(len(p))
	i := classOf(len(p))
	if i < 0 || len(p) != classSizes[i] || b.free+int64(len(p)) > b.limit {
		return
	}
	b.free += int64(len(p))
	b.classes[i].list = append(b.classes[i].list, p)
}

// BufferStats tells how many bytes are lent and how many are free.
func (w *Worker) BufferStats() (inUse, free int64) { return w.buffers.inUse, w.buffers.free }

// trim gives up, once a period, the buffers that nobody needed in it.
func (b *buffers) trim(now int64) {
	if now < b.trimAt {
		return
	}
	b.trimAt = now + trimPeriod
	for i := range b.classes {
		c := &b.classes[i]
		drop := min(c.low, len(c.list))
		keep := copy(c.list, c.list[drop:])
		clear(c.list[keep:])
		c.list = c.list[:keep]
		b.free -= int64(drop * classSizes[i])
		c.low = len(c.list)
	}
}
