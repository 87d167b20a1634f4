// Package receiver is the secondary's half: it takes the data lane of a session and makes a replica of it.
//
// The stages of a Run, each a goroutine, in the order in which a message passes them:
//
//  1. Handle: room is taken in the queue; a sender that is too fast waits here.
//  2. check: a batch must follow the received mark and its digests must match, or everything behind that mark is
//     asked for again; chunks must match their digest. What passes is received (protocol B). A batch that builds on earlier
//     ones or on the disks is replaced here by the plain one that it stands for: what is stored stands alone.
//  3. stage: all batches that have gathered go into the store with one sync, as they came. They are staged (protocol C).
//  4. apply: batches and chunks are written to the disks in stream order; before that, while a resync that keeps a way
//     back runs, the old content of every block that is overwritten for the first time is made durable.
//  5. flush: the disks are synced, then the applied mark moves and chunks are acknowledged.
//
// Beside them run the outbox, which sends acknowledgements and answers on the control lane, always the latest marks
// and never a growing queue, and the comparers, which hash what a Query or a Verify asks about.
//
// Batches that gather behind a slow disk are dropped from memory once they are staged, and read back from the store.
//
// Invariant: applied ≤ staged ≤ received, whenever nobody holds Target.mu. A mark is told to the peer only after what it
// claims is so: staged survives any crash, applied is on the disks and synced.
//
// What is staged and not applied is applied again after a restart, in order; doing so twice is harmless, and so is
// doing so behind a chunk that was written after it: whatever made the chunk newer is itself behind it in the stream.
package receiver
