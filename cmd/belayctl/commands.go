package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"time"

	"github.com/spf13/cobra"

	"belay/internal/admin/adminapi"
)

const (
	defaultTimeout    = 10 * time.Second
	completionTimeout = time.Second // a person waits with a finger on the tab key
)

// command builds the tree of commands.
func (p *program) command() *cobra.Command {
	root := &cobra.Command{
		Use:           "belayctl",
		Short:         "Show what a running belayd is doing",
		SilenceErrors: true,
		SilenceUsage:  true,

		SuggestionsMinimumDistance: 2,
		CompletionOptions:          cobra.CompletionOptions{DisableDefaultCmd: true},
		Args:                       cobra.ArbitraryArgs,
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return c.Help()
			}
			return unknownCommand(c, args[0])
		},
	}
	root.SetFlagErrorFunc(func(_ *cobra.Command, err error) error { return usageError{err} })
	f := root.PersistentFlags()
	f.StringVar(&p.socket, "socket", p.socket, "admin socket of belayd; also $"+socketEnv)
	f.BoolVar(&p.json, "json", false, "print JSON")
	f.DurationVar(&p.timeout, "timeout", defaultTimeout, "wait this long for an answer of belayd")
	root.AddCommand(p.statusCommand(), p.readyCommand(), p.statsCommand(), p.listenersCommand(), p.clustersCommand(),
		p.configCommand(), p.topCommand(), p.restartStatusCommand(), p.drainCommand(), p.certsCommand(), p.tlsCommand(), p.versionCommand(), p.completionCommand(root))
	all := root.Commands()
	for _, c := range root.Commands() {
		all = append(all, c.Commands()...)
	}
	for _, c := range all {
		if check := c.Args; check != nil {
			c.Args = func(c *cobra.Command, args []string) error {
				if err := check(c, args); err != nil {
					return usageError{err}
				}
				return nil
			}
		}
	}
	return root
}

func unknownCommand(c *cobra.Command, name string) error {
	hint := ""
	if near := c.SuggestionsFor(name); len(near) > 0 {
		hint = fmt.Sprintf(", did you mean %q?", near[0])
	}
	return usageError{fmt.Errorf("there is no command %q%s", name, hint)}
}

func (p *program) statusCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "status",
		Short: "Show the daemon as a whole",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			s, err := ask(c.Context(), p, (*adminapi.Client).Status)
			if err != nil {
				return err
			}
			return p.print(s, func(w io.Writer) error { return writeStatus(w, &s) })
		},
	}
}

func (p *program) readyCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "ready",
		Short: "Say whether the daemon serves; exit status 1 if not",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			r, err := ask(c.Context(), p, (*adminapi.Client).Ready)
			if err != nil {
				return err
			}
			err = p.print(r, func(w io.Writer) error {
				text := "ready"
				if !r.Ready {
					text = "not ready: " + printable(r.Reason)
				}
				_, err := fmt.Fprintln(w, text)
				return err
			})
			if err == nil && !r.Ready {
				err = errNotReady
			}
			return err
		},
	}
}

func (p *program) statsCommand() *cobra.Command {
	var q adminapi.StatsQuery
	c := &cobra.Command{
		Use:   "stats [FILTER]",
		Short: "Show counters, gauges and histograms",
		Long:  "Show counters, gauges and histograms, those whose line matches the regular expression FILTER.",
		Example: `  belayctl stats 'listener="web"'
  belayctl stats --nonzero 'cluster="app".*(timeouts|failures)'`,
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: p.complete(statNames),
		RunE: func(c *cobra.Command, args []string) error {
			if len(args) > 0 {
				q.Filter = args[0]
			}
			if p.json {
				s, err := ask(c.Context(), p, func(a *adminapi.Client, ctx context.Context) ([]adminapi.Series, error) { return a.Stats(ctx, q) })
				if err != nil {
					return err
				}
				return p.print(s, nil)
			}
			text, err := ask(c.Context(), p, func(a *adminapi.Client, ctx context.Context) (string, error) { return a.StatsText(ctx, q) })
			if err != nil {
				return err
			}
			_, err = io.WriteString(p.stdout, text)
			return err
		},
	}
	c.Flags().BoolVar(&q.NonZero, "nonzero", false, "only what is not 0")
	return c
}

func (p *program) listenersCommand() *cobra.Command {
	return &cobra.Command{
		Use:               "listeners [NAME]",
		Short:             "Show the listeners, or all about one",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: p.complete(listenerNames),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := ask(c.Context(), p, func(a *adminapi.Client, ctx context.Context) ([]adminapi.Listener, error) {
				return a.Listeners(ctx, adminapi.Query{Name: first(args)})
			})
			if err != nil {
				return err
			}
			return p.print(l, func(w io.Writer) error {
				if len(args) > 0 && len(l) == 1 {
					return writeListener(w, &l[0])
				}
				return writeListeners(w, l)
			})
		},
	}
}

func (p *program) clustersCommand() *cobra.Command {
	var endpoints bool
	c := &cobra.Command{
		Use:               "clusters [NAME]",
		Short:             "Show the clusters, or one with its endpoints",
		Args:              cobra.MaximumNArgs(1),
		ValidArgsFunction: p.complete(clusterNames),
		RunE: func(c *cobra.Command, args []string) error {
			l, err := ask(c.Context(), p, func(a *adminapi.Client, ctx context.Context) ([]adminapi.Cluster, error) {
				return a.Clusters(ctx, adminapi.Query{Name: first(args)})
			})
			if err != nil {
				return err
			}
			return p.print(l, func(w io.Writer) error {
				if err := writeClusters(w, l); err != nil || !endpoints && len(args) == 0 {
					return err
				}
				fmt.Fprintln(w)
				return writeEndpoints(w, l)
			})
		},
	}
	c.Flags().BoolVarP(&endpoints, "endpoints", "e", false, "show the endpoints of every cluster")
	return c
}

func (p *program) configCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "config [PATH]",
		Short: "Show the configuration in effect, with every default",
		Long: "Show the configuration in effect, with every default, as TOML that belayd would read, or the part\n" +
			"of it at PATH, written as in belayd's messages. Comments tell the state of the certificates.",
		Example: `  belayctl config listener.web.timeouts
  belayctl config 'listener.web.route[0]'`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			raw, err := ask(c.Context(), p, (*adminapi.Client).Config)
			if err != nil {
				return err
			}
			path := first(args)
			if raw, err = lookup(raw, path); err != nil {
				return err
			}
			return p.print(raw, func(w io.Writer) error {
				if path != "" {
					return writeTOML(w, path, raw)
				}
				rest, states, err := without(raw, adminapi.ConfigCertificates)
				if err != nil {
					return err
				}
				if err := writeStates(w, states); err != nil {
					return err
				}
				return writeTOML(w, path, rest)
			})
		},
	}
}

func (p *program) versionCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "version",
		Short: "Print the versions of belayctl and of the running belayd",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			v := struct {
				Belayctl string `json:"belayctl"`
				Belayd   string `json:"belayd,omitempty"` // "": not reached
			}{Belayctl: version}
			s, err := ask(c.Context(), p, (*adminapi.Client).Status)
			v.Belayd = s.Version
			if err != nil {
				fmt.Fprintf(p.stderr, "belayctl: %v\n", err)
			}
			return p.print(v, func(w io.Writer) error {
				fmt.Fprintf(w, "belayctl %s\n", v.Belayctl)
				if v.Belayd != "" {
					fmt.Fprintf(w, "belayd   %s (pid %d)\n", printable(v.Belayd), s.PID)
				}
				return nil
			})
		},
	}
}

func (p *program) completionCommand(root *cobra.Command) *cobra.Command {
	return &cobra.Command{
		Use:   "completion {bash|zsh|fish}",
		Short: "Print the completion script of a shell",
		Example: `  belayctl completion bash > /usr/share/bash-completion/completions/belayctl
  belayctl completion zsh > /usr/share/zsh/vendor-completions/_belayctl
  belayctl completion fish > /usr/share/fish/vendor_completions.d/belayctl.fish`,
		ValidArgs: []string{"bash", "zsh", "fish"},
		Args:      cobra.MatchAll(cobra.ExactArgs(1), cobra.OnlyValidArgs),
		RunE: func(_ *cobra.Command, args []string) error {
			switch args[0] {
			case "bash":
				return root.GenBashCompletionV2(p.stdout, true)
			case "zsh":
				return root.GenZshCompletion(p.stdout)
			}
			return root.GenFishCompletion(p.stdout, true)
		},
	}
}

// print writes v as JSON if that is wanted, else as text does.
func (p *program) print(v any, text func(io.Writer) error) error {
	if !p.json {
		return text(p.stdout)
	}
	e := json.NewEncoder(p.stdout)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	return e.Encode(v)
}

func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

// complete completes the first argument with names that the daemon knows. When
// it cannot be asked there is nothing to offer, and no place to say why.
func (p *program) complete(names func(context.Context, *adminapi.Client) []string) cobra.CompletionFunc {
	return func(c *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
		if len(args) > 0 {
			return nil, cobra.ShellCompDirectiveNoFileComp
		}
		ctx, cancel := context.WithTimeout(context.Background(), completionTimeout)
		defer cancel()
		client := adminapi.NewClient(p.socket)
		defer client.Close()
		return names(ctx, client), cobra.ShellCompDirectiveNoFileComp
	}
}

func listenerNames(ctx context.Context, c *adminapi.Client) []string {
	all, _ := c.Listeners(ctx, adminapi.Query{})
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	return names
}

func clusterNames(ctx context.Context, c *adminapi.Client) []string {
	all, _ := c.Clusters(ctx, adminapi.Query{})
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	return names
}

// statNames are the names of the series; neighbours are of one family.
func statNames(ctx context.Context, c *adminapi.Client) []string {
	all, _ := c.Stats(ctx, adminapi.StatsQuery{})
	var names []string
	for i := range all {
		if i == 0 || all[i].Name != all[i-1].Name {
			names = append(names, all[i].Name)
		}
	}
	return names
}
