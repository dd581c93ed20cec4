package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"belay/internal/admin/adminapi"
)

func (p *program) endpointCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "endpoint",
		Short: "Show the endpoints of clusters, and drain, disable or enable one",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(p.endpointListCommand(), p.endpointDrainCommand(),
		p.endpointWishCommand("disable", "Have an endpoint get no requests, sessions that are pinned to it included"),
		p.endpointWishCommand("enable", "End a drain, or what disable did"))
	return c
}

// clusterEndpoint is an endpoint with the name of its cluster.
type clusterEndpoint struct {
	Cluster string `json:"cluster"`
	adminapi.Endpoint
}

// name is how an endpoint is written in one word.
func (e *clusterEndpoint) name() string { return e.Cluster + "/" + e.ID }

func (p *program) endpointListCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "list [CLUSTER]",
		Short:             "Show state, health and sessions of the endpoints",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: p.complete(clusterNames),
		RunE: func(c *cobra.Command, args []string) error {
			clusters, err := ask(c.Context(), p, func(a *adminapi.Client, ctx context.Context) ([]adminapi.Cluster, error) {
				return a.Clusters(ctx, adminapi.Query{Name: first(args)})
			})
			if err != nil {
				return err
			}
			list := []clusterEndpoint{}
			for i := range clusters {
				for _, e := range clusters[i].Endpoints {
					list = append(list, clusterEndpoint{clusters[i].Name, e})
				}
			}
			return p.print(list, func(w io.Writer) error { return writeEndpointList(w, list) })
		},
	}
}

func writeEndpointList(w io.Writer, list []clusterEndpoint) error {
	s := newSheet("CLUSTER", "ENDPOINT", "STATE", "ADMIN", "SINCE", "HEALTH", ">PRIO", ">WEIGHT", ">SESSIONS", ">ACTIVE", "NOTE")
	for i := range list {
		e := &list[i]
		sessions := count(e.Sessions)
		if e.Uncounted {
			sessions = none
		}
		s.add(e.Cluster, e.ID, e.State, e.Admin, moment(e.AdminSince), e.Health, fmt.Sprint(e.Priority), weight(&e.Endpoint), sessions, count(e.Active), note(&e.Endpoint))
	}
	return s.write(w)
}

// moment writes when something was; nil is nothing.
func moment(t *time.Time) string {
	if t == nil {
		return none
	}
	return t.Format(time.RFC3339)
}

// weight is the weight of an endpoint with its share in a slow start.
func weight(e *adminapi.Endpoint) string {
	if e.Share < 1 {
		return fmt.Sprintf("%.0f%% of %d", e.Share*100, e.Weight)
	}
	return fmt.Sprint(e.Weight)
}

// note says why an endpoint is what it is.
func note(e *adminapi.Endpoint) string {
	var parts []string
	switch {
	case e.DrainEnded:
		parts = append(parts, "drain is over")
	case e.Admin == adminapi.AdminDraining && e.Deadline != nil:
		parts = append(parts, "until "+moment(e.Deadline))
	}
	if e.Weight == 0 {
		parts = append(parts, "pinned sessions only")
	}
	why := e.Why
	if e.Ejected != nil {
		why = fmt.Sprintf("ejected until %s", moment(e.Ejected))
		if e.Ejections > 1 {
			why += fmt.Sprintf(" (%d times in a row)", e.Ejections)
		}
		if e.Why != "" {
			why += ": " + e.Why
		}
	}
	if why != "" {
		parts = append(parts, why)
	}
	if len(parts) == 0 {
		return none
	}
	return strings.Join(parts, "; ")
}

func (p *program) endpointWishCommand(wish, short string) *cobra.Command {
	return &cobra.Command{
		Use:               wish + " CLUSTER ENDPOINT",
		Short:             short,
		Args:              cobra.ExactArgs(2),
		ValidArgsFunction: p.completeEndpoint(),
		RunE: func(c *cobra.Command, args []string) error {
			e, err := p.wish(c.Context(), adminapi.EndpointChange{Cluster: args[0], ID: args[1], Wish: wish})
			if err != nil {
				return err
			}
			return p.print(e, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, printable(endpointText(&e)))
				return err
			})
		},
	}
}

// wish tells the daemon what is wanted of an endpoint.
func (p *program) wish(ctx context.Context, x adminapi.EndpointChange) (clusterEndpoint, error) {
	e, err := ask(ctx, p, func(a *adminapi.Client, ctx context.Context) (adminapi.Endpoint, error) {
		return a.ChangeEndpoint(ctx, x)
	})
	return clusterEndpoint{x.Cluster, e}, err
}

// endpointText is an endpoint in one line.
func endpointText(e *clusterEndpoint) string {
	text := fmt.Sprintf("%s is %s", e.name(), e.Admin)
	switch {
	case e.DrainEnded:
		text = e.name() + " is drained"
	case e.Admin == adminapi.AdminEnabled:
		return text + ", its state is " + e.State
	case e.Admin == adminapi.AdminDraining && e.Deadline != nil:
		text += " until " + moment(e.Deadline)
	}
	return text + ": " + sessionsText(&e.Endpoint) + ", " + plural(e.Active, "request") + " under way"
}

// sessionsText says how many sessions lead to an endpoint.
func sessionsText(e *adminapi.Endpoint) string {
	switch {
	case e.Uncounted:
		return "sessions are not counted"
	case e.SessionsWithin > 0:
		return plural(int64(e.Sessions), "session") + " in the last " + age(time.Duration(e.SessionsWithin*float64(time.Second)))
	}
	return plural(int64(e.Sessions), "session")
}

// plural is a number with what it counts.
func plural(n int64, what string) string {
	if n == 1 {
		return "1 " + what
	}
	return count(n) + " " + what + "s"
}

func (p *program) endpointDrainCommand() *cobra.Command {
	var deadline, limit time.Duration
	c := &cobra.Command{
		Use:   "drain CLUSTER ENDPOINT",
		Short: "Have an endpoint get no new sessions",
		Long: "Have an endpoint get no new sessions; those that are pinned to it stay. When none is left, or at the\n" +
			"deadline, the drain is over: the endpoint is disabled until it is enabled.",
		Example: `  belayctl endpoint drain app app-1 --deadline 1h --wait
  belayctl endpoint enable app app-1`,
		ValidArgsFunction: p.completeEndpoint(),
		RunE: func(c *cobra.Command, args []string) error {
			switch {
			case deadline < 0 || deadline == 0 && c.Flags().Changed("deadline"):
				return usageError{errors.New("--deadline must be above 0")}
			case limit < 0:
				return usageError{errors.New("--wait must be 0 or more")}
			}
			e, err := p.wish(c.Context(), adminapi.EndpointChange{Cluster: args[0], ID: args[1], Wish: "drain", Deadline: deadline})
			if err != nil {
				return err
			}
			if c.Flags().Changed("wait") {
				return p.waitEndpoint(c.Context(), &e, limit)
			}
			return p.print(e, func(w io.Writer) error { return writeEndpointDrain(w, &e) })
		},
	}
	c.Args = func(_ *cobra.Command, args []string) error {
		if len(args) > 2 && c.Flags().Changed("wait") {
			return fmt.Errorf("unexpected argument %q: write --wait=TIME with an equals sign", args[2])
		}
		return cobra.ExactArgs(2)(c, args)
	}
	c.Flags().DurationVar(&deadline, "deadline", 0, "end the drain after this `TIME`, whatever is left")
	c.Flags().DurationVar(&limit, "wait", 0, "wait until the drain is over, or for this `TIME`; 0: without end")
	c.Flags().Lookup("wait").NoOptDefVal = "0s"
	_ = c.RegisterFlagCompletionFunc("deadline", cobra.NoFileCompletions) // the flag is there
	return c
}

func writeEndpointDrain(w io.Writer, e *clusterEndpoint) error {
	text := printable(endpointText(e)) + "\n"
	if !e.DrainEnded {
		text += printable(fmt.Sprintf("to undo it: belayctl endpoint enable %s %s", e.Cluster, e.ID)) + "\n"
	}
	_, err := io.WriteString(w, text)
	return err
}

// waitEndpoint waits until the drain of an endpoint is over, and tells of each
// change; a limit of 0 is none.
func (p *program) waitEndpoint(ctx context.Context, e *clusterEndpoint, limit time.Duration) error {
	if !p.json {
		if err := writeEndpointDrain(p.stdout, e); err != nil {
			return err
		}
	}
	waiting := ctx
	if limit > 0 {
		var cancel context.CancelFunc
		waiting, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	tick := time.NewTicker(p.poll)
	defer tick.Stop()
	for told, answered := progress(&e.Endpoint), time.Now(); !e.DrainEnded; {
		select {
		case <-tick.C:
		case <-waiting.Done():
		}
		now, err := ask(waiting, p, func(a *adminapi.Client, ctx context.Context) (adminapi.Endpoint, error) {
			return a.Endpoint(ctx, e.Cluster, e.ID)
		})
		var reply *adminapi.ReplyError
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case waiting.Err() != nil:
			return fmt.Errorf("after %v %s", limit, endpointText(e))
		case err != nil && !errors.As(err, &reply) && time.Since(answered) < p.timeout:
			continue // a process that replaces the daemon takes its socket over
		case err != nil:
			return err
		}
		answered, e.Endpoint = time.Now(), now
		if now.Admin != adminapi.AdminDraining {
			return fmt.Errorf("%s is %s: somebody changed that, or belayd was started anew", e.name(), now.Admin)
		}
		if x := progress(&now); x != told && !p.json {
			told = x
			if _, err := fmt.Fprintln(p.stdout, printable(endpointText(e))); err != nil {
				return err
			}
		}
	}
	if p.json {
		return p.print(e, nil)
	}
	return nil
}

// drainProgress is what a wait tells the changes of. Requests come and go until the
// last session has gone.
type drainProgress struct {
	sessions int
	active   int64
	ended    bool
}

func progress(e *adminapi.Endpoint) drainProgress {
	x := drainProgress{sessions: e.Sessions, ended: e.DrainEnded}
	if e.Sessions == 0 {
		x.active = e.Active
	}
	return x
}

// completeEndpoint completes a cluster and one of its endpoints.
func (p *program) completeEndpoint() cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
		names := clusterNames
		switch len(args) {
		case 0:
		case 1:
			names = func(ctx context.Context, a *adminapi.Client) []string {
				return endpointNames(ctx, a, args[0])
			}
		default:
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		return p.complete(names)(c, nil, word)
	}
}

func endpointNames(ctx context.Context, c *adminapi.Client, cluster string) (names []string) {
	all, _ := c.Clusters(ctx, adminapi.Query{Name: cluster})
	for i := range all {
		for k := range all[i].Endpoints {
			names = append(names, all[i].Endpoints[k].ID)
		}
	}
	return names
}
