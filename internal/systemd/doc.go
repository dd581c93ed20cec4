// Package systemd speaks with the service manager and its journal: readiness,
// watchdog and descriptor store (sd_notify(3)), sockets it hands over
// (sd_listen_fds(3)), and log records with fields of their own (Journal Native
// Protocol).
//
// Nothing here needs systemd to run: without NOTIFY_SOCKET a Notifier is nil and
// does nothing, without LISTEN_FDS there are no sockets, and an event that the
// journal does not take is a line on stderr like any other record.
package systemd
