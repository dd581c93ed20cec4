package hotrestart

import (
	"context"
	"errors"
	"time"

	pb "belay/internal/hotrestart/hotrestartpb"
)

// While two processes serve, each tells the other what it learns:
//
//	child  ──Exchange, empty──> parent    Fetch: until there is no more
//	child  ──Exchange──> parent           from Run until Release
//	main   ──Exchange──> draining one     from then on
//	leaving one ──Exchange──> main        before Final
//
// The newer one asks, so that nobody asks who does not know how, and one that
// refuses the message as unknown is not asked again.

// exchangeInterval is how often one process asks another. What cannot wait so long is
// told at once, by Tell.
const exchangeInterval = 100 * time.Millisecond

// exchange is the state of it on one connection; the node's goroutine has it, or
// before Run the one that builds.
type exchange struct {
	link Link
	busy bool // a call is under way
	more bool // and there is something new since
	deaf bool // the other process does not know the message
}

// link is this process's side on a connection.
func (n *Node) link(c *Conn) Link {
	if c.exchange.link == nil {
		c.exchange.link = n.p.Link()
	}
	return c.exchange.link
}

// hasPartners reports whether there is anybody to ask.
func (n *Node) hasPartners() bool { return len(n.elders) > 0 || n.up != nil }

// exchangeAll asks everybody.
func (n *Node) exchangeAll() {
	for _, e := range n.elders {
		if !e.mute {
			n.exchange(e.conn)
		}
	}
	if p := n.up; p != nil && p.Info.Version > 0 {
		n.exchange(p.Conn)
	}
}

// Tell has all that this process serves beside hear soon of what it has learnt: also
// who drains tells main, and a parent its child, who else are asked. It may be called
// from any goroutine.
func (n *Node) Tell() {
	n.post(func() {
		if n.telling {
			return
		}
		n.exchangeAll()
		if n.main != nil {
			n.exchange(n.main)
		}
		if a := n.attempt; a != nil && a.child != nil && a.child.exchange.link != nil { // it has asked, so it knows how
			n.exchange(a.child)
		}
	})
}

// exchange tells and asks without waiting. A process that does not answer is not
// asked again: what it has not read would pile up.
func (n *Node) exchange(c *Conn) {
	x := &c.exchange
	if x.busy || x.deaf || c.Err() != nil {
		x.more = x.busy
		return
	}
	x.more = false
	list, more := n.link(c).Next()
	x.busy = true
	go func() {
		// As long as it may take: an answer that nobody waits for would be lost.
		ctx, cancel := context.WithTimeout(context.Background(), n.o.ShutdownTime+n.o.CallTime)
		defer cancel()
		m, fds, err := c.Call(ctx, &pb.Message{Body: &pb.Message_Exchange{Exchange: &pb.Exchange{Blobs: toBlobs(list)}}})
		closeAll(fds)
		n.post(func() {
			x.busy = false
			if err != nil {
				x.failed(err)
				return
			}
			reply := m.GetExchangeReply()
			n.link(c).Take(fromBlobs(reply.GetBlobs()))
			if more || x.more || reply.GetMore() {
				n.exchange(c)
			}
		})
	}()
}

// failed begins anew with the next call: what was to be told may not have come
// there.
func (x *exchange) failed(err error) {
	x.link = nil
	var no *Refused
	x.deaf = errors.As(err, &no) && no.Code == pb.Error_UNKNOWN_MESSAGE
}

// exchanged answers another process.
func (n *Node) exchanged(r *Request, m *pb.Exchange) {
	if !n.isPartner(r.Conn()) {
		r.Refuse(pb.Error_REFUSED, "process %d exchanges nothing with this one", n.self.PID)
		return
	}
	reply := &pb.ExchangeReply{}
	if l := n.link(r.Conn()); !n.telling { // else what this process knows is on its way
		l.Take(fromBlobs(m.Blobs))
		var list []Blob
		list, reply.More = l.Next()
		reply.Blobs = toBlobs(list)
	}
	r.Reply(&pb.Message{Body: &pb.Message_ExchangeReply{ExchangeReply: reply}})
}

// isPartner reports whether the process at the other end serves, or is about to,
// in this chain.
func (n *Node) isPartner(c *Conn) bool {
	if c == n.main || n.attempt != nil && c == n.attempt.child || n.up != nil && c == n.up.Conn {
		return true
	}
	for _, e := range n.elders {
		if e.conn == c {
			return true
		}
	}
	return false
}

// rest is what a process that leaves has learnt and main was not told; nil: there
// is nothing left.
func (n *Node) rest(main *Conn) *pb.Message {
	if main.exchange.deaf {
		return nil
	}
	list, _ := n.link(main).Next()
	if len(list) == 0 {
		return nil
	}
	return &pb.Message{Body: &pb.Message_Exchange{Exchange: &pb.Exchange{Blobs: toBlobs(list)}}}
}

// toldRest is the end of telling a piece of it.
func (n *Node) toldRest(main *Conn, err error) {
	if err == nil {
		return
	}
	n.do(func() { main.exchange.deaf = true }) // the counts are next
	var no *Refused
	if main.Err() == nil && !(errors.As(err, &no) && no.Code == pb.Error_UNKNOWN_MESSAGE) {
		n.log.Warn("what this process learnt last is not acknowledged", "error", err)
	}
}

// Fetch takes all that the parent has into l, which serves the exchange with it
// from then on. It is called before Run; again, it takes what has come since. A
// parent that does not know how gives nothing.
func (p *Parent) Fetch(l Link) error {
	x := &p.Conn.exchange
	x.link = l
	if p.Info.Version == 0 || x.deaf {
		return nil
	}
	for more := true; more; {
		m, err := p.call(&pb.Message{Body: &pb.Message_Exchange{Exchange: &pb.Exchange{}}})
		var no *Refused
		if errors.As(err, &no) && no.Code == pb.Error_UNKNOWN_MESSAGE {
			x.deaf = true
			return nil
		}
		if err != nil && p.ended() {
			return nil // what it has told is all there is
		}
		if err != nil {
			return err
		}
		reply := m.GetExchangeReply()
		l.Take(fromBlobs(reply.GetBlobs()))
		more = reply.GetMore()
	}
	return nil
}

func toBlobs(list []Blob) (out []*pb.StateReply_Blob) {
	for _, b := range list {
		out = append(out, &pb.StateReply_Blob{Owner: b.Owner, Version: b.Version, Data: b.Data})
	}
	return out
}

func fromBlobs(list []*pb.StateReply_Blob) (out []Blob) {
	for _, b := range list {
		out = append(out, Blob{Owner: b.GetOwner(), Version: b.GetVersion(), Data: b.GetData()})
	}
	return out
}
