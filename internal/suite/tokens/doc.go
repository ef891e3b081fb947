// Package tokens holds the race suite of tokens. It is tests: an open vault over a real
// keystore, several egress nodes and servers, and a provider that rotates refresh tokens and
// revokes a grant when it sees one twice.
//
// Purpose: to prove that over all processes one refresh token is sent once, whoever dies when.
// Nodes, servers and the vault are killed at random while many users need the same tokens.
// What no design can save is the time between the provider's answer and its commit; the suite
// measures it, and a connection that a kill hits in it must end as lost_answer and as nothing
// else. The red twin switches the one lock off and must see tokens sent twice.
//
// Authority: none. The package has no code outside its tests.
//
// Concurrency: the nodes of a test are goroutines of one process, which are cut off from
// everything when they are killed. Failure: a test that cannot build its red twin fails.
package tokens
