package config

import (
	"regexp"
	"time"
)

// HealthCheck is cluster.NAME.health_check; nil: none.
type HealthCheck struct {
	Type          string // "http" (default), "tcp", "tls"
	Method        string // default "GET"
	Path          string // default "/"
	Host          string // default: the endpoint's
	Headers       [][2]string
	Status        []StatusRange  // healthy; default 200-399
	Degraded      []StatusRange  // alive, but others are preferred; default none
	Body          *regexp.Regexp // must match somewhere in the first 64 KiB; nil: any
	Port          uint16         // 0: the endpoint's
	Interval      time.Duration  // default 5s
	IntervalDown  time.Duration  // while unhealthy; default: Interval
	IntervalFirst time.Duration  // while a change is counted up (rise, fall); default 1s, at most Interval
	Jitter        float64        // share of the interval; default 0.1
	Timeout       time.Duration  // default 2s
	Rise          int            // passes to healthy; default 2; the first check of all decides alone
	Fall          int            // fails to unhealthy; default 3
}

// StatusRange is "200" or "200-399", both ends included.
type StatusRange struct{ From, To int }

// Outlier is cluster.NAME.outlier: endpoints are judged by their replies; nil: not.
type Outlier struct {
	Consecutive        int           // errors in a row; 0: not counted; default 5
	On                 RetryOn       // what is an error; default connect-failure, reset, first-byte-timeout and 5xx
	SuccessRate        float64       // standard deviations below the mean; 0 (default): not judged
	SuccessRateMinimum int           // requests of an endpoint in an interval to be judged; default 100
	SuccessRateHosts   int           // endpoints with that many; default 5
	FailurePercent     int           // at least so many of 100 fail; 0 (default): not judged; same minimum
	Interval           time.Duration // between two judgements of rates; default 10s
	Ejection           time.Duration // the first time; multiplied by the times in a row; default 30s
	MaxEjection        time.Duration // default 5m
	MaxEjected         int           // percent of the cluster's endpoints, at least one; default 10
}
