// Package shm is the memory that the generations of one belay share: which
// processes there are and what each does, the number of the next generation, and
// the locks around log files that two generations write.
//
// The memory is a file of one page, mapped by every process that uses it. Nobody
// is trusted to tidy up: whatever a process leaves in it is under its name (see
// [Identity]), and is void once no such process lives. Whether anybody uses the
// file at all, the kernel says: each user holds a shared flock(2) on it.
//
// Processes that share a segment see the same process ids: they are in one PID
// namespace, and in one time namespace.
package shm
