// Package sender is the primary's half of a resource: the write path of its volumes, the shipping of its journal to
// each peer, and the source of a resync.
//
// A write passes these stages, in the order of the files:
//
//  1. gate.go       admission: Primary, not suspended
//  2. volume.go     activity log (durable before the first write to an extent), range lock
//  3. group.go      the write order: journal record, or a bit in the bitmap, for each peer
//  4. volume.go     journal commit and write to the backing disk
//  5. ack.go        completion by protocol: A here, B received by the peer, C staged by the peer
//
// and each peer's stream, on its own goroutine, does the rest:
//
//  6. stream.go     the pump: batches first, then resync, one goroutine, so that the data lane has one order
//  7. batch.go      cut, fold, compress, send; acknowledgements; resending
//     reduce.go     how much is done to make batches small
//  8. resync.go     runs of the bitmap, as data or as digests; pace.go how fast, survey.go how long
//  9. ahead.go      what happens when the journal is full; chase.go a peer that the line cannot catch up with
//
// Where the disk of a Primary is gone, remote.go has a peer carry out its clients' requests, and serve.go is what the peer does.
package sender
