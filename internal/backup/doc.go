// Package backup writes a platform's database and blobs, or its keystore, into one
// encrypted archive, and puts an archive back.
//
// # Two archives
//
// The database and the keystore are never in the same archive. The database archive
// holds ciphertext and metadata; the keystore archive holds the wrapped keys that open
// it. A key that is destroyed today must not live on in a copy, so keystore archives
// have a short life, [KeystoreLife], which is written into them and which [Restore]
// checks. Neither archive holds the root key, without which both are noise.
//
// # Format
//
// An age file (age-encryption.org/v1) to one or more X25519 recipients, around a tar
// stream:
//
//	BACKUP           JSON: what this is, made before anything is copied
//	bulkhead.db      or database.pgdump, or keystore.db
//	passphrase.kdf   beside a keystore whose root key comes from a passphrase: salt and
//	                 cost, no secret, and needed to make the root key of the passphrase
//	blobs/<day>/<id> the blobs that the database names
//	SHA256SUMS       one line for each part above but the first, as sha256sum prints it
//	MANIFEST         JSON: BACKUP again with totals and the digest of SHA256SUMS; the last
//
// age authenticates every byte by chunks of 64 KiB, so that a flipped byte, a missing end
// and anything added are refused; the sums show in addition that the archive was written
// to its end. age does not say who wrote an archive: whoever knows a recipient can make
// one. Keep archives where only those write whom you trust with the database.
//
// # Order
//
// The database is copied first, as of one moment, and then the blobs that it names. A
// blob is complete on disk before its row is committed, and leaves the disk only after
// its day: so no blob of a row is missing but one that expired meanwhile, which nothing
// could open any more.
//
// # Authority and failure
//
// Files of a role are read as that role's user and never as root: a breached role could
// have left a link where a file was. [Create] writes under a temporary name and gives the
// archive its name when it is complete and on disk. [Restore] puts nothing in place before
// every byte was checked. Memory is constant. Functions are safe for concurrent use on
// different directories.
package backup
