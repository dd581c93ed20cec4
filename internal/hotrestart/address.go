package hotrestart

import (
	"net/netip"

	"belay/internal/eventloop"
	pb "belay/internal/hotrestart/hotrestartpb"
)

// Group is the listen sockets of one address.
type Group struct {
	Address eventloop.Address
	Name    string // of the listener; of a socket unit's, its FileDescriptorName=
	FDs     []int
	// Manager says that the sockets belong to a socket unit of the service
	// manager, which made them.
	Manager bool
	// Admin says that the sockets are the admin API's, whatever their name is.
	Admin bool
	// Total is how many sockets the parent has; FDs is empty where they were not
	// asked for.
	Total int
}

func toAddress(a eventloop.Address) *pb.Address {
	if a.Unix != "" {
		return &pb.Address{Unix: a.Unix}
	}
	return &pb.Address{Tcp: a.AP.String()}
}

// fromAddress is false for what is no address here.
func fromAddress(a *pb.Address) (eventloop.Address, bool) {
	if a.GetUnix() != "" {
		return eventloop.Address{Unix: a.Unix}, true
	}
	ap, err := netip.ParseAddrPort(a.GetTcp())
	return eventloop.Address{AP: ap}, err == nil
}

func toAddresses(list []eventloop.Address) []*pb.Address {
	out := make([]*pb.Address, len(list))
	for i, a := range list {
		out[i] = toAddress(a)
	}
	return out
}

func fromAddresses(list []*pb.Address) []eventloop.Address {
	out := make([]eventloop.Address, 0, len(list))
	for _, a := range list {
		if x, ok := fromAddress(a); ok {
			out = append(out, x)
		}
	}
	return out
}
