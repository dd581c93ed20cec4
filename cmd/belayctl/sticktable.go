package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"belay/internal/admin/adminapi"
)

func (p *program) tableCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "table",
		Short: "Show and change stick tables",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(p.tableListCommand(), p.tableShowCommand(), p.tableSetCommand(), p.tableClearCommand())
	return c
}

func (p *program) tableListCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "list",
		Short:             "Show the stick tables",
		Args:              cobra.NoArgs,
		ValidArgsFunction: cobra.NoFileCompletions,
		RunE: func(c *cobra.Command, _ []string) error {
			list, err := ask(c.Context(), p, (*adminapi.Client).Tables)
			if err != nil {
				return err
			}
			return p.print(list, func(w io.Writer) error { return writeTables(w, list) })
		},
	}
}

func writeTables(w io.Writer, list []adminapi.Table) error {
	s := newSheet("NAME", ">ENTRIES", ">SIZE", ">EXPIRE", ">HITS", ">MISSES", ">INSERTED", ">EVICTED", ">EXPIRED", "CLUSTERS", "STORE")
	for i := range list {
		t := &list[i]
		expire, store := "never", t.Store
		if t.Expire > 0 {
			expire = age(time.Duration(t.Expire * float64(time.Second)))
		}
		if store == "" {
			store = none
		}
		s.add(t.Name, count(t.Entries), count(t.Size), expire, count(t.Hits), count(t.Misses), count(t.Inserted), count(t.Evicted), count(t.Expired),
			short(t.Clusters), store)
	}
	return s.write(w)
}

// entryFlags are the options that choose entries of a table.
type entryFlags struct {
	q        adminapi.TableQuery
	endpoint string
}

func (f *entryFlags) add(p *program, c *cobra.Command) {
	c.Flags().StringVar(&f.q.Key, "key", "", "only this `KEY`, written as in the list")
	c.Flags().StringVar(&f.endpoint, "endpoint", "", "only those that lead to `CLUSTER/ENDPOINT`")
	c.Flags().DurationVar(&f.q.IdleOver, "idle-over", 0, "only those that were not used for this `TIME`")
	c.Flags().DurationVar(&f.q.IdleUnder, "idle-under", 0, "only those that were used within this `TIME`")
	for name, complete := range map[string]cobra.CompletionFunc{
		"endpoint": p.completeAt(fullEndpointNames), "key": cobra.NoFileCompletions, "idle-over": cobra.NoFileCompletions, "idle-under": cobra.NoFileCompletions,
	} {
		_ = c.RegisterFlagCompletionFunc(name, complete) // the flag is there
	}
}

// query is what the options choose of a table.
func (f *entryFlags) query(c *cobra.Command, name string) (q adminapi.TableQuery, err error) {
	q = f.q
	q.Name = name
	for flag, d := range map[string]time.Duration{"idle-over": q.IdleOver, "idle-under": q.IdleUnder} {
		if c.Flags().Changed(flag) && d <= 0 {
			return q, usageError{fmt.Errorf("--%s must be above 0", flag)}
		}
	}
	if c.Flags().Changed("key") && q.Key == "" {
		return q, usageError{errors.New("--key must not be empty")}
	}
	if c.Flags().Changed("endpoint") {
		q.Cluster, q.Endpoint, err = clusterAndID(f.endpoint)
	}
	return q, err
}

// clusterAndID takes CLUSTER/ENDPOINT apart. Names of clusters have no slash.
func clusterAndID(text string) (cluster, id string, err error) {
	cluster, id, _ = strings.Cut(text, "/")
	if cluster == "" || id == "" {
		return "", "", usageError{fmt.Errorf("%q is not CLUSTER/ENDPOINT", text)}
	}
	return cluster, id, nil
}

func (p *program) tableShowCommand() *cobra.Command {
	var f entryFlags
	c := &cobra.Command{
		Use:   "show TABLE",
		Short: "Show the entries of a stick table",
		Long: "Show the entries of a stick table, in no order. In keys, \\ and all that is not visible ASCII is\n" +
			"written \\xNN; clients' addresses are written as such. With --json each entry is one line.",
		Example: `  belayctl table show sessions --endpoint app/app-1 --idle-under 10m
  belayctl table show sources --key 192.0.2.7`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.complete(tableNames),
		RunE: func(c *cobra.Command, args []string) error {
			q, err := f.query(c, args[0])
			switch {
			case err != nil:
				return err
			case q.Limit < 0:
				return usageError{errors.New("--limit must be 0 or more")}
			}
			return p.showTable(c.Context(), q)
		},
	}
	f.add(p, c)
	c.Flags().IntVar(&f.q.Limit, "limit", 0, "show no more than so many; 0: all")
	_ = c.RegisterFlagCompletionFunc("limit", cobra.NoFileCompletions) // the flag is there
	return c
}

// showTable prints entries as they come.
func (p *program) showTable(ctx context.Context, q adminapi.TableQuery) error {
	out := &entryPrinter{w: p.stdout}
	if p.json {
		out.json = json.NewEncoder(p.stdout)
		out.json.SetEscapeHTML(false)
	}
	limit, n := q.Limit, 0
	if limit > 0 {
		q.Limit++ // to know whether there are more
	}
	err := p.eachEntry(ctx, q, func(e adminapi.TableEntry) error {
		if n++; limit > 0 && n > limit {
			return nil
		}
		return out.add(&e)
	})
	if flushed := out.flush(err == nil); err == nil {
		err = flushed
	}
	if err == nil && limit > 0 && n > limit {
		_, err = fmt.Fprintf(p.stderr, "belayctl: there are more than %d entries\n", limit)
	}
	return err
}

// eachEntry asks for entries; the time limit is on each of them.
func (p *program) eachEntry(ctx context.Context, q adminapi.TableQuery, yield func(adminapi.TableEntry) error) error {
	asking, cancel := context.WithCancel(ctx)
	defer cancel()
	late := time.AfterFunc(p.timeout, cancel)
	defer late.Stop()
	c := adminapi.NewClient(p.socket)
	defer c.Close()
	err := c.TableEntries(asking, q, func(e adminapi.TableEntry) error {
		late.Stop() // standard output may be a person who reads
		err := yield(e)
		late.Reset(p.timeout)
		return err
	})
	if err != nil && asking.Err() != nil && ctx.Err() == nil {
		return fmt.Errorf("belayd at %s does not answer", p.socket)
	}
	return err
}

// entryPrinter writes entries: as lines of JSON, or as a table whose columns are
// aligned within some rows, since there may be more of them than memory.
type entryPrinter struct {
	w      io.Writer
	json   *json.Encoder // nil: a table
	sheet  *sheet
	titled bool
}

// sheetRows are the rows that are aligned together.
const sheetRows = 1000

func (x *entryPrinter) add(e *adminapi.TableEntry) error {
	if x.json != nil {
		return x.json.Encode(e)
	}
	if x.sheet == nil {
		x.sheet = newSheet("KEY", "ENDPOINT", ">AGE", ">IDLE")
	}
	endpoint := e.Cluster + "/" + e.Endpoint
	if e.Endpoint == "" {
		endpoint = "unknown " + e.Unknown
	}
	x.sheet.add(e.Key, endpoint, age(time.Duration(e.AgeSecond)*time.Second), age(time.Duration(e.Idle)*time.Second))
	if len(x.sheet.rows) < sheetRows {
		return nil
	}
	return x.flush(false)
}

// flush writes what has been kept, and a heading even over nothing if titles says so.
func (x *entryPrinter) flush(titles bool) error {
	switch {
	case x.json != nil || x.sheet == nil && (x.titled || !titles):
		return nil
	case x.sheet == nil:
		x.sheet = newSheet("KEY", "ENDPOINT", ">AGE", ">IDLE")
	}
	s := x.sheet
	x.sheet = nil
	text := s.String()
	if x.titled {
		_, text, _ = strings.Cut(text, "\n")
	}
	x.titled = true
	_, err := io.WriteString(x.w, text)
	return err
}

func (p *program) tableSetCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "set TABLE KEY CLUSTER/ENDPOINT",
		Short:   "Have a key of a stick table lead to an endpoint",
		Example: `  belayctl table set sources 192.0.2.7 app/app-1`,
		Args:    cobra.ExactArgs(3),
		ValidArgsFunction: func(c *cobra.Command, args []string, word string) ([]string, cobra.ShellCompDirective) {
			switch len(args) {
			case 0:
				return p.complete(tableNames)(c, nil, word)
			case 2:
				return p.complete(fullEndpointNames)(c, nil, word)
			}
			return nil, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(c *cobra.Command, args []string) error {
			cluster, id, err := clusterAndID(args[2])
			if err != nil {
				return err
			}
			if args[1] == "" {
				return usageError{errors.New("the key must not be empty")}
			}
			e, err := ask(c.Context(), p, func(a *adminapi.Client, ctx context.Context) (adminapi.TableEntry, error) {
				return a.SetTable(ctx, args[0], args[1], cluster, id)
			})
			if err != nil {
				return err
			}
			return p.print(e, func(w io.Writer) error {
				_, err := fmt.Fprintln(w, printable(fmt.Sprintf("%s leads to %s/%s", e.Key, e.Cluster, e.Endpoint)))
				return err
			})
		},
	}
}

func (p *program) tableClearCommand() *cobra.Command {
	var f entryFlags
	c := &cobra.Command{
		Use:   "clear TABLE",
		Short: "Drop entries of a stick table",
		Long: "Drop the entries of a stick table that all of the options choose; whoever they were of is balanced\n" +
			"anew. Without one of the others, --all is needed.",
		Example: `  belayctl table clear sessions --endpoint app/app-1 --idle-over 5m
  belayctl table clear sessions --all`,
		Args:              cobra.ExactArgs(1),
		ValidArgsFunction: p.complete(tableNames),
		RunE: func(c *cobra.Command, args []string) error {
			q, err := f.query(c, args[0])
			if err != nil {
				return err
			}
			chosen := q.Key != "" || q.Endpoint != "" || q.IdleOver > 0 || q.IdleUnder > 0
			if chosen == q.All {
				return usageError{errors.New("which entries? --key, --endpoint, --idle-over and --idle-under choose some, --all alone chooses all")}
			}
			n, err := ask(c.Context(), p, func(a *adminapi.Client, ctx context.Context) (int, error) { return a.ClearTable(ctx, q) })
			if err != nil {
				return err
			}
			return p.print(adminapi.Cleared{Cleared: n}, func(w io.Writer) error {
				text := count(n) + " entries dropped"
				if n == 1 {
					text = "1 entry dropped"
				}
				_, err := fmt.Fprintln(w, text)
				return err
			})
		},
	}
	f.add(p, c)
	c.Flags().BoolVar(&f.q.All, "all", false, "drop all entries")
	return c
}

// completeAt completes with names wherever the word stands.
func (p *program) completeAt(names func(context.Context, *adminapi.Client) []string) cobra.CompletionFunc {
	return func(c *cobra.Command, _ []string, word string) ([]string, cobra.ShellCompDirective) {
		return p.complete(names)(c, nil, word)
	}
}

func tableNames(ctx context.Context, c *adminapi.Client) (names []string) {
	all, _ := c.Tables(ctx)
	for i := range all {
		names = append(names, all[i].Name)
	}
	return names
}

// fullEndpointNames are CLUSTER/ENDPOINT.
func fullEndpointNames(ctx context.Context, c *adminapi.Client) (names []string) {
	all, _ := c.Clusters(ctx, adminapi.Query{})
	for i := range all {
		for k := range all[i].Endpoints {
			names = append(names, all[i].Name+"/"+all[i].Endpoints[k].ID)
		}
	}
	return names
}
