-- What production.yml needs besides PostgreSQL's own; run once, as a superuser.
CREATE DATABASE catalog OWNER xpcs;
CREATE DATABASE users OWNER xpcs;
CREATE DATABASE tables OWNER xpcs;
