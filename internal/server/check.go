package server

import (
	"errors"
	"fmt"

	"belay/internal/accesslog"
	"belay/internal/config"
	"belay/internal/route"
)

// Check validates what only the packages that use a value can judge, without
// opening or binding anything. All problems are joined.
func Check(cfg *config.Config) error {
	var errs []error
	if err := accesslog.Validate(cfg.AccessLog.Format); err != nil && cfg.AccessLog.Format != "json" {
		errs = append(errs, fmt.Errorf("access_log.format: %w", err))
	}
	for _, l := range cfg.Listeners {
		if l.Protocol != config.ProtocolHTTP {
			continue
		}
		if _, err := route.Compile(l.Routes); err != nil {
			errs = append(errs, fmt.Errorf("listener.%s: %w", l.Name, err))
		}
	}
	return errors.Join(errs...)
}
