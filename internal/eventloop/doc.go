// Package eventloop is the ground the data path stands on: workers that each run
// an epoll loop on a thread of their own, with timers, buffers and a mailbox, and
// the thin non-blocking socket calls they use.
//
// One turn of a worker, in order:
//
//	epoll_wait → clock → events of registrations marked first → other events
//	→ timers → mailbox → tasks deferred in earlier turns → turn-end hooks
//
// System calls are made in two ways. A raw call keeps the scheduler out, which
// saves about 60 ns, but the thread then has no safe point until it returns: were
// it to block, the garbage collector would wait for it for ever. So only calls
// that cannot wait are raw: epoll_wait with timeout 0, and receiving and sending
// with MSG_DONTWAIT. The epoll_wait that sleeps, accept4 and connect are not.
package eventloop
