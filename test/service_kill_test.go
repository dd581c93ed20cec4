package test

import (
	"syscall"
	"testing"

	"belay/test/harness"
)

// kill -9 under load on a TCP and a Unix listener: nobody is refused, those that
// were cut are not more than were connected, and the counters of the next epoch
// begin at 0 and are what the clients have counted since.
func TestServiceKilledCounts(t *testing.T) {
	t.Parallel()
	const socket = "/run/belay/web.sock"
	b := startService(t, harness.ServiceOptions{Config: boxSite("", "[listener.local]\naddress = \"unix:"+socket+"\"\n[[listener.local.route]]\ncluster = \"back\"\n")})
	old := b.WaitQuiet()
	const clients = 6 // of each target
	load := harness.StartLoad(b.Box, harness.LoadOptions{
		Targets: map[string]string{"web": harness.FaultListener, "local": socket}, KeepAlive: 3, Fresh: 3, Rate: 150,
	})
	harness.Eventually(t, patience, "counts of the first epoch", func() bool { return b.Requests() > 200 })
	before := load.Totals()
	b.Signal(old, syscall.SIGKILL)
	after := load.Totals()
	harness.Eventually(t, patience, "another main process", func() bool {
		now := b.MainPID(harness.FaultUnit)
		return now != 0 && now != old
	})
	if now := b.WaitQuiet(); now == old {
		t.Error("not restarted")
	}
	if n, _ := b.Metric(harness.FaultAdmin, "belay_epoch"); n != 2 {
		t.Errorf("epoch %.0f", n)
	}
	first := b.Requests()
	harness.Eventually(t, patience, "counts that grow", func() bool { return b.Requests() > first+100 })
	res := load.Stop()
	for target := range res.Counts {
		total, was, then := res.Total(target), before.Total(target), after.Total(target)
		if total.Outcomes["refused"] > 0 || total.Failed() > clients {
			t.Errorf("%s: of %d clients: %v\n%s", target, clients, total.Outcomes, res)
		}
		// A reply may have been on its way to each client when after was counted.
		low, high := total.Outcomes["ok"]-then.Outcomes["ok"]-clients, total.Requests-was.Outcomes["ok"]
		n, _ := b.Metric(harness.FaultAdmin, "belay_listener_requests_total", `listener="`+target+`"`)
		if int64(n) < low || int64(n) > high {
			t.Errorf("%s: %.0f requests counted, the clients made %d to %d since the kill", target, n, low, high)
		}
		t.Logf("%s: %.0f requests counted after the kill, between %d and %d; in all %v", target, n, low, high, total.Outcomes)
	}
}
