package hotrestart

import (
	pb "belay/internal/hotrestart/hotrestartpb"
	"belay/internal/stats"
)

func toDeltas(list []stats.Delta) []*pb.Delta {
	store := make([]pb.Delta, len(list)) // one allocation for all
	out := make([]*pb.Delta, len(list))
	for i := range list {
		d, o := &list[i], &store[i]
		o.Family, o.Kind, o.Help = d.Family, uint32(d.Kind), d.Help
		o.Count, o.Value, o.Counts, o.Sum, o.Bounds = d.Count, d.Value, d.Counts, d.Sum, d.Bounds
		o.Retired, o.Writers = d.Retired, d.Writers
		o.Labels = make([]string, 0, 2*len(d.Labels))
		for _, l := range d.Labels {
			o.Labels = append(o.Labels, l.Name, l.Value)
		}
		out[i] = o
	}
	return out
}

// fromDeltas leaves out what no series can be.
func fromDeltas(list []*pb.Delta) []stats.Delta {
	out := make([]stats.Delta, 0, len(list))
	for _, o := range list {
		if o == nil || o.Family == "" || o.Kind > uint32(stats.KindHistogram) || len(o.Labels)%2 != 0 {
			continue
		}
		d := stats.Delta{
			Family: o.Family, Kind: stats.Kind(o.Kind), Help: o.Help,
			Count: o.Count, Value: o.Value, Counts: o.Counts, Sum: o.Sum, Bounds: o.Bounds,
			Retired: o.Retired, Writers: o.Writers,
		}
		for i := 0; i < len(o.Labels); i += 2 {
			d.Labels = append(d.Labels, stats.Label{Name: o.Labels[i], Value: o.Labels[i+1]})
		}
		out = append(out, d)
	}
	return out
}
