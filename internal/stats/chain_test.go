package stats

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
)

// model is a chain of generations as the protocol of hot restart drives them,
// beside a plain account of what they counted.
type model struct {
	t     *testing.T
	rng   *rand.Rand
	epoch uint64
	main  *generation
	old   []*generation // those that drain
	truth account
	seen  map[string]float64 // the highest value of a counter that main's snapshots had
}

// account is what was counted, by the text of the series; of a histogram all slots.
type account map[string][]uint64

func (a account) add(b account) {
	for k, v := range b {
		if a[k] == nil {
			a[k] = make([]uint64, len(v))
		}
		for i, n := range v {
			a[k][i] += n
		}
	}
}

// generation is one process of the model.
type generation struct {
	epoch   uint64
	r       *Registry
	shards  []*Shard
	count   []func(rng *rand.Rand) // each counts something in one series
	known   map[int]bool
	gauges  map[string]func() float64 // the true values
	counted account
	up      *Exporter // to whoever is, or may become, main
}

// modelLabels are the label values of the model's series; every family has one
// with each.
var modelLabels = []string{"a", "b", "c"}

// spawn starts a generation. It knows each series perhaps, but for sure if main
// does not: what two generations in a row do not know is given up.
func (m *model) spawn() *generation {
	m.epoch++
	g := &generation{epoch: m.epoch, r: NewRegistry(), known: make(map[int]bool), counted: make(account), gauges: make(map[string]func() float64)}
	var fill []func()
	for i := range 6 * len(modelLabels) {
		if m.main == nil || !m.main.known[i] || m.rng.IntN(4) > 0 {
			g.known[i] = true
			fill = append(fill, func() { g.register(i/len(modelLabels), Label{"x", modelLabels[i%len(modelLabels)]}) })
		}
	}
	m.rng.Shuffle(len(fill), func(i, k int) { fill[i], fill[k] = fill[k], fill[i] })
	for _, f := range fill {
		f()
	}
	for range 1 + m.rng.IntN(3) {
		g.shards = append(g.shards, g.r.NewShard())
	}
	g.up = NewExporter(g.r)
	return g
}

// register registers a series of one of six families.
func (g *generation) register(family int, l Label) {
	shard := func(rng *rand.Rand) *Shard { return g.shards[rng.IntN(len(g.shards))] }
	note := func(name string, slots int) []uint64 {
		v := make([]uint64, slots)
		g.counted[name+"{"+l.String()+"}"] = v
		return v
	}
	switch family {
	case 0:
		h, v := g.r.Counter("belay_a_total", "A.", l), note("belay_a_total", 1)
		g.count = append(g.count, func(rng *rand.Rand) { n := rng.Uint64N(9); shard(rng).Add(h, n); v[0] += n })
	case 1:
		h, v := g.r.Histogram("belay_b_seconds", "B.", l), note("belay_b_seconds", histogramSlots)
		g.count = append(g.count, func(rng *rand.Rand) {
			ns := rng.Int64N(1 << rng.IntN(40))
			shard(rng).Observe(h, ns)
			v[bucketOf(uint64(ns))]++
			v[slotSum] += (uint64(ns) + 500) / 1000
		})
	case 2:
		h, v := g.r.Atomic("belay_c_total", "C.", l), note("belay_c_total", 1)
		g.count = append(g.count, func(rng *rand.Rand) { h.Add(1); v[0]++ })
	case 3:
		n, v := new(atomic.Uint64), note("belay_d_total", 1)
		g.r.Func(KindCounter, "belay_d_total", "D.", func() float64 { return float64(n.Load()) + 0.5 }, l)
		g.count = append(g.count, func(rng *rand.Rand) { n.Add(2); v[0] += 2 })
	case 4:
		h, v := g.r.Gauge("belay_e", "E.", l), new(int64)
		g.count = append(g.count, func(rng *rand.Rand) { n := rng.Int64N(9) - 4; shard(rng).GaugeAdd(h, n); *v += n })
		g.gauges["belay_e{"+l.String()+"}"] = func() float64 { return float64(*v) }
	case 5:
		v := new(atomic.Int64)
		read := func() float64 { return float64(v.Load()) / 2 }
		g.r.FuncSum("belay_f", "F.", read, l)
		g.count = append(g.count, func(rng *rand.Rand) { v.Store(rng.Int64N(3)) })
		g.gauges["belay_f{"+l.String()+"}"] = read
	}
}

func (g *generation) copies() (c [][]uint64) {
	for _, s := range g.shards {
		c = append(c, s.CopyTo(nil))
	}
	return c
}

// traffic lets generations count.
func (m *model) traffic(list ...*generation) {
	for range 20 {
		g := list[m.rng.IntN(len(list))]
		g.count[m.rng.IntN(len(g.count))](m.rng)
	}
}

// tell is one export of g that arrives, after some that get lost.
func (m *model) tell(g *generation) []Delta {
	for m.rng.IntN(3) == 0 {
		g.up.Next(g.copies())
		m.traffic(g)
	}
	copies := g.copies()
	if len(copies) > 1 && m.rng.IntN(3) == 0 {
		copies[0] = nil // a busy worker
	}
	d := g.up.Next(copies)
	g.up.Ack()
	return d
}

// restart is one restart with one of three ends.
func (m *model) restart() {
	child := m.spawn()
	child.up.Own = true
	var held [][]Delta // what the child told: the parent adds it if the child fails
	told := account{}
	for range m.rng.IntN(4) {
		m.traffic(append(m.old, m.main, child)...)
		if m.rng.IntN(2) == 0 {
			child.r.Apply(m.main.epoch, m.tell(m.main))
		}
		held = append(held, child.up.Next(child.copies()))
		child.up.Ack()
		told = account{}
		told.add(child.counted)
	}
	m.traffic(m.main, child)
	switch m.rng.IntN(3) {
	case 0: // it dies: what it told counts
		m.main.up.Reset()
		m.fail(child, held)
		m.truth.add(told)
		m.main.r.Forget(child.epoch)
	case 1: // it steps back, and tells the rest while it drains
		m.main.up.Reset()
		m.fail(child, held)
		m.old = append(m.old, child)
	default:
		parent := m.main
		if m.rng.IntN(2) == 0 { // it lets go of those that drain before it tells
			for _, g := range m.old {
				parent.r.Apply(g.epoch, m.tell(g))
				parent.r.Forget(g.epoch)
			}
		}
		m.old = append(m.old, parent)
		m.main = child
		child.up = NewExporter(child.r)
		child.r.Apply(parent.epoch, m.tell(parent))
	}
}

func (m *model) fail(child *generation, held [][]Delta) {
	for _, d := range held {
		m.main.r.Apply(child.epoch, d)
	}
}

// poll asks those that drain, of which some end.
func (m *model) poll(endAll bool) {
	m.old = slices.DeleteFunc(m.old, func(g *generation) bool {
		m.main.r.Apply(g.epoch, m.tell(g))
		if !endAll && m.rng.IntN(4) > 0 {
			return false
		}
		m.main.r.Apply(g.epoch, g.up.Next(g.copies()))
		g.up.Ack()
		m.main.r.Forget(g.epoch)
		m.truth.add(g.counted)
		return true
	})
	var stray []uint64
	for _, e := range m.main.r.Generations() {
		if !slices.ContainsFunc(m.old, func(g *generation) bool { return g.epoch == e }) {
			stray = append(stray, e)
		}
	}
	for _, e := range stray { // ended before main began
		m.main.r.Forget(e)
	}
}

// check holds a snapshot of main against the account: counters never fall, gauges
// are the sum over the living, and the text is valid.
func (m *model) check() {
	m.t.Helper()
	s := m.main.r.Merge(m.main.copies())
	checkText(m.t, s)
	gauges := make(map[string]float64)
	for _, g := range append(m.old, m.main) {
		for name, f := range g.gauges {
			gauges[name] += f()
		}
	}
	for _, f := range s.Families() {
		for _, x := range f.Series {
			if len(x.Labels) == 0 {
				if x.Value != 0 {
					m.t.Errorf("%s %v", f.Name, x.Value)
				}
				continue
			}
			name := f.Name + "{" + x.Labels[0].String() + "}"
			if f.Kind == KindGauge {
				if x.Value != gauges[name] {
					m.t.Errorf("%s is %v, want %v", name, x.Value, gauges[name])
				}
				delete(gauges, name)
				continue
			}
			if x.Value < m.seen[name] {
				m.t.Errorf("%s fell from %v to %v", name, m.seen[name], x.Value)
			}
			m.seen[name] = x.Value
		}
	}
	for name, v := range gauges {
		if v != 0 {
			m.t.Errorf("%s is missing, want %v", name, v)
		}
	}
}

// The counts of many generations, some of which fail, end up in the last one,
// each once.
func TestChain(t *testing.T) {
	for seed := range uint64(60) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			m := &model{t: t, rng: rand.New(rand.NewPCG(seed, 5)), truth: make(account), seen: make(map[string]float64)}
			m.main = m.spawn()
			generations := 1
			for generations < 5 || len(m.old) > 0 && m.rng.IntN(3) > 0 {
				m.traffic(append(m.old, m.main)...)
				before := m.main
				m.restart()
				if m.main != before {
					generations++
				}
				m.traffic(append(m.old, m.main)...)
				m.poll(false)
				for _, g := range m.old {
					m.main.r.Apply(g.epoch, g.up.Next(g.copies()))
					g.up.Ack()
				}
				m.check()
			}
			m.poll(true)
			m.check()
			m.truth.add(m.main.counted)
			got := make(account)
			for _, d := range NewExporter(m.main.r).Next(m.main.copies()) {
				if d.Kind == KindCounter {
					got.add(account{d.Family + "{" + d.Labels[0].String() + "}": {d.Count}})
				} else if d.Kind == KindHistogram {
					got.add(account{d.Family + "{" + d.Labels[0].String() + "}": append(slices.Clone(d.Counts), d.Sum)})
				}
			}
			maps.DeleteFunc(m.truth, func(_ string, v []uint64) bool { return slices.Max(v) == 0 })
			if !maps.EqualFunc(got, m.truth, slices.Equal) {
				t.Errorf("the last generation has\n%v\nwant\n%v", got, m.truth)
			}
			s := m.main.r.Merge(m.main.copies())
			for name, v := range m.truth {
				family, label, _ := strings.Cut(name, "{")
				if n, ok := s.Value(family, Label{"x", strings.Trim(label, `x="}`)}); ok && len(v) == 1 && n != float64(v[0]) {
					t.Errorf("the snapshot has %s %v, want %d", name, n, v[0])
				}
			}
		})
	}
}

// checkText fails on text that has a family or a sample twice, or a sample
// outside its family.
func checkText(t *testing.T, s *Snapshot) {
	t.Helper()
	var b strings.Builder
	if err := WritePrometheus(&b, s); err != nil {
		t.Fatal(err)
	}
	seen := make(map[string]bool)
	family := ""
	for line := range strings.Lines(b.String()) {
		key := line[:strings.LastIndexByte(line, ' ')]
		if name, isHelp := strings.CutPrefix(line, "# HELP "); isHelp {
			family, _, _ = strings.Cut(name, " ")
			key = "# HELP " + family
		} else if !strings.HasPrefix(line, "#") && !strings.HasPrefix(line, family) {
			t.Errorf("%q in family %s", line, family)
		}
		if seen[key] {
			t.Errorf("%q twice", key)
		}
		seen[key] = true
	}
}
