package cluster

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"belay/internal/config"
)

// stateful is a cluster whose endpoints are checked and judged.
func stateful(name string, now *time.Time, ids ...string) *Cluster {
	c := &config.Cluster{Name: name, Balance: "round_robin", HealthCheck: &config.HealthCheck{}, Outlier: &config.Outlier{}, SlowStart: time.Minute}
	for i, id := range ids {
		c.Endpoints = append(c.Endpoints, config.Endpoint{ID: id, Host: "127.0.0.1", Port: uint16(i + 1), Weight: 1})
	}
	x := New(c)
	x.clock = func() time.Time { return *now }
	return x
}

func (c *Cluster) endpoint(id string) *Endpoint {
	for _, e := range c.Endpoints {
		if e.ID == id {
			return e
		}
	}
	return nil
}

// plain leaves the monotonic clock and the zone out, which do not travel.
func plain(i Info) Info {
	for _, t := range []*time.Time{&i.AdminAt, &i.Deadline, &i.HealthAt, &i.Ejected} {
		*t = t.UTC().Round(0)
	}
	return i
}

// What one process knows of its endpoints, the next one knows as well, in whatever
// order it has them; what it does not have is left out.
func TestHandOver(t *testing.T) {
	now := time.Date(2026, 1, 2, 3, 4, 5, 6, time.UTC)
	ids := []string{"fine", "drains", "ended", "disabled", "bad", "degraded", "ejected", "back", "rising", "gone"}
	old := []*Cluster{stateful("a", &now, ids...), stateful("b", &now, "bad"), stateful("gone", &now, "x")}
	at := func(id string) *Endpoint { return old[0].endpoint(id) }
	at("drains").SetAdmin(Drain, now.Add(time.Hour))
	at("ended").SetAdmin(Drain, time.Time{})
	at("ended").EndDrain()
	at("disabled").SetAdmin(Disable, time.Time{})
	at("bad").SetHealth(HealthBad, "status 500")
	old[1].endpoint("bad").SetHealth(HealthGood, "")
	at("degraded").SetHealth(HealthDegraded, "")
	at("ejected").Eject(now.Add(30*time.Second), "5 errors in a row")
	at("back").Eject(now.Add(time.Second), "3 errors in a row")
	at("back").Return(false)
	at("rising").SetHealth(HealthBad, "refused")
	at("rising").SetHealth(HealthGood, "")
	for _, c := range []string{"disabled", "gone"} {
		at(c).SetHealth(HealthGood, "")
	}
	at("fine").Away(now.Unix()) // a request found it so
	left := now.Unix()
	now = now.Add(6 * time.Second)

	next := []*Cluster{stateful("b", &now, "bad"), stateful("a", &now, "new", "ejected", "rising", "back", "fine", "bad", "drains", "disabled", "ended", "degraded")}
	for _, c := range next {
		c.Notice = func(e *Endpoint, from, to State) { t.Errorf("%s: %v to %v is told again", e.ID, from, to) }
	}
	if err := TakeOver(next, EndpointsVersion, HandOver(old)); err != nil {
		t.Fatal(err)
	}
	for _, c := range next {
		for _, e := range c.Endpoints {
			was := old[0].endpoint(e.ID)
			if c.Config.Name == "b" {
				was = old[1].endpoint(e.ID)
			}
			want := Info{Share: 1}
			if was != nil {
				want = plain(was.Info())
			}
			if got := plain(e.Info()); got != plain(want) || e.State() != want.State {
				t.Errorf("%s.%s is %v:\n%+v, want\n%+v", c.Config.Name, e.ID, e.State(), got, want)
			}
		}
	}
	if share := next[1].endpoint("rising").Info().Share; share < 0.09 || share > 0.11 {
		t.Errorf("the slow start goes on with %v", share)
	}
	if since := next[1].endpoint("fine").Away(now.Unix()); since != left {
		t.Errorf("the endpoint is away since %d, not %d", since, left)
	}
	for _, id := range []string{"drains", "disabled", "bad", "ejected"} {
		if next[1].current.Load().in[next[1].endpoint(id).Index] {
			t.Errorf("%s gets new sessions", id)
		}
	}
	now = now.Add(time.Hour)
	next[1].Notice = nil
	next[1].Tick()
	if s := next[1].endpoint("drains").State(); s != Disabled {
		t.Errorf("at its deadline the drain is %v", s)
	}
	if s := next[1].endpoint("ejected").State(); s != Healthy {
		t.Errorf("after its time the ejected endpoint is %v", s)
	}
}

// Without checks or outliers in the new configuration nobody would ever take the
// other process's findings back.
func TestTakeOverWithoutJudges(t *testing.T) {
	now := time.Now()
	old := stateful("a", &now, "bad", "ejected")
	old.endpoint("bad").SetHealth(HealthBad, "")
	old.endpoint("ejected").Eject(now.Add(time.Hour), "")
	next := stateful("a", &now, "bad", "ejected")
	next.Config.HealthCheck, next.Config.Outlier = nil, nil
	if err := TakeOver([]*Cluster{next}, EndpointsVersion, HandOver([]*Cluster{old})); err != nil {
		t.Fatal(err)
	}
	for _, e := range next.Endpoints {
		if e.State() != Healthy {
			t.Errorf("%s is %v for ever", e.ID, e.State())
		}
	}
}

// A process that serves takes the operator's wishes and nothing else, and tells of
// what changes by them.
func TestWishes(t *testing.T) {
	now := time.Now()
	main, elder := []*Cluster{stateful("a", &now, "x", "y", "z")}, []*Cluster{stateful("a", &now, "z", "y", "x")}
	var told []string
	elder[0].Notice = func(e *Endpoint, from, to State) { told = append(told, fmt.Sprint(e.ID, " ", from, " ", to)) }
	main[0].endpoint("z").SetHealth(HealthBad, "")
	elder[0].endpoint("y").SetAdmin(Disable, time.Time{})
	told = nil
	pass := func(want string) {
		t.Helper()
		for range 2 {
			if err := TakeWishes(elder, EndpointsVersion, Wishes(main)); err != nil {
				t.Fatal(err)
			}
		}
		if got := strings.Join(told, ", "); got != want {
			t.Errorf("told %q, want %q", got, want)
		}
		told = nil
	}
	pass("")
	main[0].endpoint("x").SetAdmin(Drain, now.Add(time.Minute))
	pass("x healthy draining")
	if got, want := plain(elder[0].endpoint("x").Info()), plain(main[0].endpoint("x").Info()); got != want {
		t.Errorf("%+v, want %+v", got, want)
	}
	main[0].endpoint("x").EndDrain()
	pass("x draining disabled")
	main[0].endpoint("x").SetAdmin(Enable, time.Time{})
	pass("x disabled healthy")
	if s := elder[0].endpoint("z").State(); s != Healthy {
		t.Errorf("z is %v", s)
	}
}

func TestTakeOverRubbish(t *testing.T) {
	now := time.Now()
	list := []*Cluster{stateful("a", &now, "x")}
	for _, tt := range []struct {
		version uint32
		data    string
		ok      bool
	}{
		{EndpointsVersion + 1, "{}", false},
		{EndpointsVersion, "", false},
		{EndpointsVersion, `{"a":[]}`, false},
		{EndpointsVersion, `null`, true},
		{EndpointsVersion, `{"a":{"x":{"wish":{"admin":"praised"},"check":{"health":"excellent"},"more":1}}}`, true},
	} {
		for name, take := range map[string]func([]*Cluster, uint32, []byte) error{"all": TakeOver, "wishes": TakeWishes} {
			if err := take(list, tt.version, []byte(tt.data)); (err == nil) != tt.ok {
				t.Errorf("%s of version %d, %s: %v", name, tt.version, tt.data, err)
			}
		}
		if i := list[0].Endpoints[0].Info(); i != (Info{Share: 1}) {
			t.Errorf("%s: %+v", tt.data, i)
		}
	}
}
