// Package harbour is the sample provider: a carrier on this machine at which companies have
// accounts, and which they connect through the browser. It is there to try what providers and
// people do (doc/tour.md), and to be the provider of tests that need one with a page to agree on.
//
// Purpose: an authorization server as good ones are today, and a small API behind it. Code flow
// with PKCE (RFC 7636), exact redirect URIs and the parameter iss (RFC 9207); access tokens that
// last a minute; refresh tokens that are good once, where one that comes twice ends the grant (RFC
// 9700 section 4.14.2); revocation (RFC 7009). It describes its API as OpenAPI document, and has a
// side file with what such a document cannot say. What has become of its grants can be asked.
//
// Authority: its own grants and parcels. Tokens are kept as SHA-256. It serves loopback only, to
// requests that name it by its address, and only where "bulkhead up --sample" or a test starts it.
//
// Concurrency: safe for concurrent use; one lock guards everything. Failure: what cannot be
// written to the file of its state is lost at the next start, and then companies connect again.
package harbour
