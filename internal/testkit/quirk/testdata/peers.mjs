// Starts two providers that others have written, and prints where they are. Both end with this process.
import { createServer } from 'node:http';
import { Provider } from 'oidc-provider';
import { OAuth2Server } from 'oauth2-mock-server';

const redirect = 'https://here.example.net/oauth/callback?env=1';
const server = createServer();
await new Promise((done) => server.listen(0, '127.0.0.1', done));
const issuer = `http://127.0.0.1:${server.address().port}`;
const provider = new Provider(issuer, {
  clients: [{
    client_id: 'client-1', client_secret: 's3cret:with/+% and more', redirect_uris: [redirect],
    grant_types: ['authorization_code', 'refresh_token'], token_endpoint_auth_method: 'client_secret_basic',
  }],
  interactions: { url: (_, i) => `/interaction/${i.uid}` },
  features: { devInteractions: { enabled: false }, revocation: { enabled: true }, introspection: { enabled: true } },
  pkce: { required: () => true },
  rotateRefreshToken: true,
  cookies: { keys: ['one'] },
  findAccount: (_, id) => ({ accountId: id, claims: () => ({ sub: id }) }),
});
server.on('request', async (req, res) => {
  if (!req.url.startsWith('/interaction/')) return provider.callback()(req, res);
  const at = await provider.interactionDetails(req, res);
  if (at.prompt.name === 'login') {
    return provider.interactionFinished(req, res, { login: { accountId: 'acct-42' } });
  }
  const grant = new provider.Grant({ accountId: at.session.accountId, clientId: at.params.client_id });
  grant.addOIDCScope(at.params.scope);
  return provider.interactionFinished(req, res, { consent: { grantId: await grant.save() } }, { mergeWithLastSubmission: true });
});

const mock = new OAuth2Server();
await mock.issuer.keys.generate('RS256');
await mock.start(0, '127.0.0.1');
console.log(JSON.stringify({ oidc: issuer, mock: `http://127.0.0.1:${mock.address().port}` }));
process.stdin.on('end', () => process.exit(0)).resume();
