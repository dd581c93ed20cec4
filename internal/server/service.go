package server

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"belay/internal/eventloop"
	"belay/internal/hotrestart"
	"belay/internal/systemd"
)

// service is the process's side of the service manager. Everything in it works,
// and does nothing, without one.
type service struct {
	s        *Server
	notifier *systemd.Notifier
	watchdog time.Duration // what the manager expects; 0: none

	main    atomic.Bool // this process is main for the manager
	fed     atomic.Bool // the watchdog is fed: main, or a child from commit on
	stored  map[string]bool
	storeMu sync.Mutex
	refused atomic.Bool
	stop    chan struct{}
	done    sync.WaitGroup

	statusMu sync.Mutex
	status   string // told last; guarded by statusMu
}

// open learns what the manager told, or a child's parent.
func (v *service) open(s *Server, parent *hotrestart.Parent) {
	v.s, v.stored, v.stop = s, make(map[string]bool), make(chan struct{})
	v.notifier = systemd.NewNotifier()
	if parent != nil {
		v.watchdog = time.Duration(parent.Info.WatchdogNs)
		return
	}
	v.watchdog, _ = systemd.WatchdogInterval()
}

// storedPrefix marks the sockets in the manager's store that are belay's own,
// beside those of socket units, whose names can have no "=".
const storedPrefix = "belay="

func isStored(name string) bool { return strings.HasPrefix(name, storedPrefix) }

// storeName names a socket in the store. It must have no colon (sd_pid_notify_with_fds(3))
// and be the same for the same socket in every process.
func storeName(a eventloop.Address, i int) string {
	text := []byte(a.String())
	for k, c := range text {
		if c == ':' || c <= ' ' || c > '~' {
			text[k] = '_'
		}
	}
	const most = 200
	if len(text) > most {
		text = text[len(text)-most:]
	}
	return fmt.Sprintf("%s%s-%d", storedPrefix, text, i)
}

// becomeMain: the process is main. It feeds the watchdog and stores its
// listen sockets.
func (v *service) becomeMain() {
	v.main.Store(true)
	v.fed.Store(true)
	if v.watchdog > 0 {
		// The manager goes on counting from the food that the last main process gave:
		// with many restarts in a row none may come to the end of its interval.
		_ = v.notifier.Watchdog()
	}
	v.store()
}

// store puts the listen sockets into the manager's store, which gives them to
// the next process when this one is killed.
func (v *service) store() {
	if v.notifier == nil {
		return
	}
	v.storeMu.Lock()
	defer v.storeMu.Unlock()
	for _, l := range v.s.listeners {
		if l.manager {
			continue
		}
		for i, fd := range l.FDs() {
			name := storeName(l.Address, i)
			if err := v.notifier.Store(name, fd); err != nil {
				v.storeRefused(err)
				return
			}
			v.stored[name] = true
		}
	}
	ok, err := v.notifier.StoreWorks(barrierTime)
	if err == nil && !ok {
		err = fmt.Errorf("the service manager refused it: is FileDescriptorStoreMax= in the unit large enough?")
	}
	if err != nil {
		v.storeRefused(err)
		return
	}
	v.refused.Store(false)
}

// barrierTime bounds a wait for the service manager.
const barrierTime = 5 * time.Second

func (v *service) storeRefused(err error) {
	v.refused.Store(true)
	v.s.log.Error("listen sockets are not in the service manager's store: a crash will refuse connections until the restart",
		systemd.MessageID, systemd.EventStoreRefused, "error", err)
}

func (v *service) storedSockets() int {
	v.storeMu.Lock()
	defer v.storeMu.Unlock()
	return len(v.stored)
}

// keeps reports whether the manager has the sockets of an address.
func (v *service) keeps(a eventloop.Address) bool {
	v.storeMu.Lock()
	defer v.storeMu.Unlock()
	return v.stored[storeName(a, 0)]
}

// unstore takes the n sockets of an address out of the store; barrier says when
// that is done. While the manager has one, its port stays open.
func (v *service) unstore(a eventloop.Address, n int) {
	v.storeMu.Lock()
	defer v.storeMu.Unlock()
	for i := range n {
		v.remove(storeName(a, i))
	}
}

// forget takes sockets that came from the store out of it.
func (v *service) forget(names []string) {
	v.storeMu.Lock()
	defer v.storeMu.Unlock()
	for _, n := range names {
		v.remove(n)
	}
}

// remove is called with storeMu held.
func (v *service) remove(name string) {
	if err := v.notifier.Unstore(name); err != nil {
		v.s.log.Warn("socket not taken out of the store", "name", name, "error", err)
	}
	delete(v.stored, name)
}

// barrier waits until the manager has done what it was told.
func (v *service) barrier() {
	if err := v.notifier.Barrier(barrierTime); err != nil {
		v.s.log.Warn("the service manager does not answer", "error", err)
	}
}

// rounds runs until end: a beat when every worker has turned, and the watchdog's
// food.
func (v *service) rounds() {
	defer v.done.Done()
	beat := time.NewTicker(v.s.cfg.HotRestart.Heartbeat / 2) // one that comes late is no hang
	defer beat.Stop()
	food := time.NewTicker(foodInterval(v.watchdog))
	defer food.Stop()
	for {
		select {
		case <-v.stop:
			return
		case <-beat.C:
			if n := v.s.node; n != nil && v.s.Turn(v.s.cfg.HotRestart.Heartbeat) {
				n.Beat()
				n.Report()
			}
			v.s.memory.look()
		case <-food.C:
			if v.watchdog > 0 && v.fed.Load() && v.s.Turn(v.watchdog/4) {
				_ = v.notifier.Watchdog() // the manager acts when it does not hear of us
			}
		}
	}
}

// statusRounds runs until end: a status line when it has changed, and another try
// where the store refused the sockets. It asks the node, which may be busy; that
// must not starve the watchdog.
func (v *service) statusRounds() {
	status := time.NewTicker(statusInterval)
	defer status.Stop()
	again := time.NewTicker(storeInterval)
	defer again.Stop()
	for {
		select {
		case <-v.stop:
			return
		case <-status.C:
			v.tell()
		case <-again.C:
			v.storeAgain()
		}
	}
}

func (v *service) storeAgain() {
	if v.refused.Load() {
		v.restore()
	}
}

// restore stores what a main process has, whether it is there or not.
func (v *service) restore() {
	store := func() {
		if v.main.Load() {
			v.store()
		}
	}
	if n := v.s.node; n != nil {
		n.Do(store) // not while the listeners pass on
	} else {
		store()
	}
}

const (
	statusInterval = 2 * time.Second
	storeInterval  = 30 * time.Second
)

// foodInterval is how often the watchdog is fed: twice as often as is expected
// (sd_watchdog_enabled(3)).
func foodInterval(watchdog time.Duration) time.Duration {
	if watchdog <= 0 {
		return time.Hour
	}
	return max(watchdog/2, time.Millisecond)
}

// tell sends the status line if it has changed.
func (v *service) tell() {
	if !v.main.Load() || v.notifier == nil {
		return
	}
	text := v.statusText()
	v.statusMu.Lock()
	defer v.statusMu.Unlock()
	if text != v.status {
		v.status = text
		_ = v.notifier.Status(text)
	}
}

// statusText is what systemctl status shows.
func (v *service) statusText() string {
	var b strings.Builder
	if e := v.s.epoch(); e > 0 {
		fmt.Fprintf(&b, "epoch %d, ", e)
	}
	fmt.Fprintf(&b, "%d connections", v.s.limit.Active())
	if v.s.announced.Load() != nil {
		b.WriteString(", draining for a balancer")
	}
	if v.s.node == nil {
		return b.String()
	}
	if p := v.s.parent; p != nil && p.Info.CutConnections > 0 {
		fmt.Fprintf(&b, "; %d connections were cut for this epoch (max_generations)", p.Info.CutConnections)
	}
	for _, g := range v.s.node.Status().Generations {
		if g.Main || g.Since.IsZero() {
			continue
		}
		fmt.Fprintf(&b, "; epoch %d drains %d connections since %s", g.Epoch, g.Connections, g.Since.Format(time.TimeOnly))
	}
	return b.String()
}

// stopping tells the manager; a process that was replaced says nothing.
func (v *service) stopping() {
	v.fed.Store(v.main.Load())
	if v.main.Load() {
		_ = v.notifier.Stopping("stopping")
		// stop_time may be longer than TimeoutStopSec=.
		_ = v.notifier.Extend(v.s.cfg.Server.StopTime + v.s.cfg.HotRestart.CallTime + stopMargin)
	}
}

// stopMargin is what a stop takes beside stop_time.
const stopMargin = 10 * time.Second

// end ends the rounds.
func (v *service) end() {
	select {
	case <-v.stop:
	default:
		close(v.stop)
	}
	v.done.Wait()
}

// started begins the rounds.
func (v *service) started() {
	v.done.Add(1)
	go v.rounds()
	if v.notifier != nil {
		go v.statusRounds()
	}
}

// turns finds out whether the workers turn.
type turns struct {
	mu     sync.Mutex    // held by who asks
	owed   atomic.Int64  // workers that were asked and have not turned
	turned chan struct{} // one token: owed has become 0
}

// Turn reports whether every worker turns within the limit. A worker that owes
// an answer is not asked again.
func (s *Server) Turn(limit time.Duration) bool {
	if !s.running.on.Load() {
		return true // nothing turns yet
	}
	t := &s.turns
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.owed.Load() == 0 {
		select {
		case <-t.turned: // of a question whose asker had given up
		default:
		}
		t.owed.Store(int64(len(s.workers)))
		for _, w := range s.workers {
			if !w.loop.Post(func() {
				if t.owed.Add(-1) == 0 {
					t.turned <- struct{}{}
				}
			}) {
				return false
			}
		}
	}
	timeout := time.NewTimer(limit)
	defer timeout.Stop()
	select {
	case <-t.turned:
		return true
	case <-timeout.C:
		return false
	}
}
