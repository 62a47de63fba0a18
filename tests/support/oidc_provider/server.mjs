// oidc-provider with the people, clients and roles of a Keycloak realm's file, on Keycloak's paths:
//   node server.mjs PORT REALM_FILE KEYS_FILE
// KEYS_FILE holds the private keys (JWKs); the first signs. It is made where it is not there.
import { existsSync, readFileSync, writeFileSync } from 'node:fs';
import { generateKeyPairSync, randomUUID } from 'node:crypto';
import { createServer } from 'node:http';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';

const [port, realmFile, keysFile] = process.argv.slice(2);
const require = createRequire(join(process.cwd(), 'node_modules', 'x.js'));
const { default: Provider, errors } = await import(pathToFileURL(require.resolve('oidc-provider')));

const AUDIENCE = 'mcp-server';
const realm = JSON.parse(readFileSync(realmFile));
const issuer = `http://127.0.0.1:${port}/realms/${realm.realm}`;
const people = new Map(realm.users.map((user) => [user.username, user]));

if (!existsSync(keysFile)) writeFileSync(keysFile, JSON.stringify([newKey()]));
const keys = JSON.parse(readFileSync(keysFile));

function newKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: randomUUID(), use: 'sig', alg: 'RS256' };
}

function bySubject(subject) {
  return realm.users.find((user) => user.id === subject);
}

function profile(user) {
  return {
    preferred_username: user.username,
    email: user.email,
    email_verified: user.emailVerified,
    given_name: user.firstName,
    family_name: user.lastName,
    name: `${user.firstName} ${user.lastName}`,
  };
}

function roles(user) {
  const own = Object.entries(user.clientRoles ?? {}).map(([client, names]) => [client, { roles: names }]);
  return { realm_access: { roles: user.realmRoles ?? [] }, resource_access: Object.fromEntries(own) };
}

const clients = realm.clients.map((client) => ({
  client_id: client.clientId,
  ...(client.publicClient ? {} : { client_secret: client.secret }),
  token_endpoint_auth_method: client.publicClient ? 'none' : 'client_secret_post',
  redirect_uris: client.standardFlowEnabled ? ['http://127.0.0.1/callback'] : [],
  application_type: 'native',
  response_types: client.standardFlowEnabled ? ['code'] : [],
  grant_types: [
    ...(client.standardFlowEnabled ? ['authorization_code'] : []),
    ...(client.serviceAccountsEnabled ? ['client_credentials'] : []),
    ...(client.directAccessGrantsEnabled ? ['password', 'refresh_token'] : []),
  ],
}));

const resource = `urn:${AUDIENCE}`;
const at = (path) => `/protocol/openid-connect/${path}`;
const resourceServer = {
  scope: 'openid profile email offline_access', audience: AUDIENCE, accessTokenFormat: 'jwt',
  accessTokenTTL: realm.accessTokenLifespan, jwt: { sign: { alg: 'RS256' } },
};
const provider = new Provider(issuer, {
  clients,
  jwks: { keys },
  scopes: ['openid', 'offline_access', 'profile', 'email'],
  claims: { profile: Object.keys(profile({})), email: ['email', 'email_verified'] },
  routes: {
    authorization: at('auth'), token: at('token'), jwks: at('certs'), userinfo: at('userinfo'),
    revocation: at('revoke'), introspection: at('token/introspect'), end_session: at('logout'),
  },
  ttl: { AccessToken: realm.accessTokenLifespan, ClientCredentials: realm.accessTokenLifespan, RefreshToken: 600, Grant: 600 },
  features: {
    clientCredentials: { enabled: true },
    revocation: { enabled: true },
    introspection: { enabled: true },
    resourceIndicators: {
      enabled: true,
      defaultResource: () => resource,
      useGrantedResource: () => true,
      getResourceServerInfo: () => resourceServer,
    },
  },
  findAccount: (_, subject) => ({ accountId: subject, claims: () => ({ sub: subject, ...profile(bySubject(subject)) }) }),
  extraTokenClaims(_, token) {
    const user = bySubject(token.accountId);
    const said = { typ: 'Bearer', azp: token.clientId };
    return user ? { ...said, ...profile(user), ...roles(user) }
      : { ...said, preferred_username: `service-account-${token.clientId}` };
  },
  formats: {
    customizers: {
      jwt(_, __, jwt) {
        jwt.header = { ...jwt.header, typ: 'JWT' }; // as Keycloak writes it
        return jwt;
      },
    },
  },
});

async function passwordGrant(ctx) {
  const { username, password } = ctx.oidc.params;
  const user = people.get(username);
  if (user?.credentials[0].value !== password) throw new errors.InvalidGrant('Invalid user credentials');
  const { client } = ctx.oidc;
  const grant = new provider.Grant({ accountId: user.id, clientId: client.clientId });
  grant.addOIDCScope('openid profile email offline_access');
  grant.addResourceScope(resource, 'openid profile email');
  const grantId = await grant.save();
  const common = { accountId: user.id, client, grantId, gty: 'password', scope: 'openid profile email' };
  const access = new provider.AccessToken(common);
  access.resourceServer = new provider.ResourceServer(resource, resourceServer);
  const refresh = new provider.RefreshToken({ ...common, resource });
  ctx.oidc.entity('Grant', grant);
  ctx.body = {
    access_token: await access.save(),
    refresh_token: await refresh.save(),
    expires_in: access.expiration,
    token_type: 'Bearer',
    scope: access.scope,
  };
}
provider.registerGrantType('password', passwordGrant, ['username', 'password', 'scope']);

provider.on('server_error', (_, error) => console.error(error));

const serve = provider.callback();
const root = new URL(issuer).pathname;
createServer((request, response) => {
  if (!request.url.startsWith(`${root}/`)) {
    response.writeHead(404, { 'content-type': 'application/json' }).end('{"error":"Realm does not exist"}');
    return;
  }
  request.originalUrl = request.url;
  request.url = request.url.slice(root.length);
  serve(request, response);
}).listen(Number(port), '127.0.0.1');
