// Package journal is the store of one resource: a Pebble database that holds its metadata, the journal of writes (the
// log), the dirty bitmaps, the activity log, the batches a receiver has staged and the pre-images it keeps.
// Every byte of it is described in docs/format.md.
//
// # Durability
//
// Each method says whether what it did is durable when it returns. What is not becomes durable with the next durable
// call or Sync, in the order in which it was done: after a crash the store holds a prefix of what was done to it.
//
// # Failure
//
// The store sits on a file system that may fill up or fail, and neither takes the process down nor hangs a caller:
//
//	           ENOSPC: the reserve file is given up,        any other error of a
//	           the write is tried again                     write or sync, or ENOSPC again
//	healthy ────────────────────────────────────> low ────────────────────────────────────> failed
//	   ^                                           │
//	   └────────────── Rearm ──────────────────────┘
//
// Low: Log.Submit, Staging.Append and History.Save return ErrNoSpace; metadata, bitmaps and the activity log still fit
// in the room that the reserve gave back. Failed: the files are left as they are from that moment on, a mark beside them
// says so (WasLost at the next Open), and every call returns ErrFailed at once.
package journal
