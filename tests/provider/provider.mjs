// An OpenID provider for the tests: a line of JSON in, a line of JSON out.
//
// {"start": PORT}   listens (0: on a free port) with a new key for each algorithm -> {"issuer": ...}
// {"sign": {"alg": ..., "kid": ..., "claims": {...}}} -> {"token": ...}; a kid that is given replaces the header's
// {"stop": true}    is away; a later start on the same port has new keys
import { createInterface } from 'node:readline';
import { OAuth2Server } from 'oauth2-mock-server';

let server;

async function start(port) {
  server = new OAuth2Server();
  await server.issuer.keys.generate('RS256');
  await server.issuer.keys.generate('ES256');
  await server.start(port, '127.0.0.1');
  server.issuer.url = `http://127.0.0.1:${server.address().port}`;
  return { issuer: server.issuer.url };
}

async function sign({ alg, kid, claims }) {
  const key = server.issuer.keys.toJSON().find((key) => key.alg === alg);
  const token = await server.issuer.buildToken({
    kid: key.kid,
    scopesOrTransform: (header, payload) => {
      if (kid) header.kid = kid;
      for (const name of Object.keys(payload)) delete payload[name];
      Object.assign(payload, claims);
    },
  });
  return { token };
}

async function answer(order) {
  if ('start' in order) return start(order.start);
  if ('sign' in order) return sign(order.sign);
  await server.stop();
  return {};
}

for await (const line of createInterface({ input: process.stdin })) {
  process.stdout.write(`${JSON.stringify(await answer(JSON.parse(line)))}\n`);
}
process.exit(0);
