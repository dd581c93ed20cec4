package systemd

// MessageID is the key of the attribute that makes a log record an event: its
// value is one of the IDs below, which the journal keeps as MESSAGE_ID. An ID is
// never changed and never used for anything else: scripts and the message
// catalog know events by it.
const MessageID = "message_id"

// The events.
const (
	// EventReady says that the process serves: after a start, or as the child of a
	// hot restart when it was released.
	EventReady = "61891693e44f41f1a34eec75335589af"

	// EventReloadBegun says that a hot restart began: a child is being started.
	EventReloadBegun = "22f39195a5d140f4b3cb70f873ab765b"

	// EventReloadDone says that a hot restart succeeded: the child is the main
	// process, the parent drains.
	EventReloadDone = "4d2895f585d94450b0e221f984db0cc1"

	// EventReloadFailed says that a hot restart failed or was refused before the
	// child accepted anything.
	EventReloadFailed = "fb0a28660ae945b4a633fde809bf49ec"

	// EventRolledBack says that a hot restart was undone after commit: the parent
	// accepts again.
	EventRolledBack = "0bc5400fc9c84656b1e7b8c92a5cfedb"

	// EventDraining says that the process no longer accepts and waits for its
	// connections to end.
	EventDraining = "30ca0b79410f4e8f94e19d3dacb8bb06"

	// EventGenerationEnded says that a draining generation is gone.
	EventGenerationEnded = "1e573e59ccef4d6e864484faea4df43f"

	// EventConnectionsCut says that connections were closed before they had ended
	// by themselves: drain_time, shutdown_time, max_generations or a stop.
	EventConnectionsCut = "63e2d80baae246e69087bced2da4fe36"

	// EventStoreRefused says that a listen socket is not in the descriptor store,
	// so a crash would refuse connections.
	EventStoreRefused = "a8f286285f5d451dbff4665655cc3f14"

	// EventMemoryHalf says that the process uses more than half of its memory
	// limit, so a hot restart may find no room for a child.
	EventMemoryHalf = "76e5a2a9ed4b4cda802fe6c70b2d666a"

	// EventStopped says that the process ended as it was told to.
	EventStopped = "4197173a15fe4071991e14098c8128e3"
)

// Event is an ID with the name it has in the documentation.
type Event struct {
	ID   string // 32 lower-case hexadecimal digits
	Name string
}

// Events lists them all.
var Events = []Event{
	{EventReady, "ready"},
	{EventReloadBegun, "reload-begun"},
	{EventReloadDone, "reload-done"},
	{EventReloadFailed, "reload-failed"},
	{EventRolledBack, "rolled-back"},
	{EventDraining, "draining"},
	{EventGenerationEnded, "generation-ended"},
	{EventConnectionsCut, "connections-cut"},
	{EventStoreRefused, "store-refused"},
	{EventMemoryHalf, "memory-half"},
	{EventStopped, "stopped"},
}
