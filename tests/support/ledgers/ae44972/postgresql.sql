-- A database whose ledger was made by the commit ae44972: tables at every stage, one version table each.
-- The KEK of the provider env: base64 of b"the KEK of a ledger in the tests"; the DEK of row N of table T: SHA-256 of "T/N".
CREATE TABLE public.branched (
    id integer NOT NULL,
    encryption_key bytea,
    wrapped_key bytea,
    wrapped_key_version character varying(10),
    kek_id character varying(255)
);
CREATE TABLE public.contracted (
    id integer NOT NULL,
    wrapped_key bytea,
    wrapped_key_version character varying(10),
    kek_id character varying(255)
);
CREATE TABLE public.dekctl_branch_keys (
    branch_id character varying(32) NOT NULL,
    context_name character varying(255) NOT NULL,
    wrapped bytea NOT NULL,
    kek_id character varying(2048) NOT NULL,
    created_at character varying(32) NOT NULL,
    max_uses bigint NOT NULL
);
CREATE TABLE public.dekctl_quarantine (
    table_name character varying(255) NOT NULL,
    pk_hash character varying(64) NOT NULL,
    pk text NOT NULL,
    operation character varying(32) NOT NULL,
    reason text NOT NULL,
    run_id character varying(36) NOT NULL,
    since character varying(32) NOT NULL
);
CREATE TABLE public.dekctl_runs (
    run_id character varying(36) NOT NULL,
    operation character varying(32) NOT NULL,
    table_name character varying(255) NOT NULL,
    env character varying(64) NOT NULL,
    shard character varying(32),
    dry_run boolean NOT NULL,
    state character varying(16) NOT NULL,
    who character varying(255) NOT NULL,
    host character varying(255) NOT NULL,
    pid integer NOT NULL,
    process_started character varying(64) NOT NULL,
    started_at character varying(32) NOT NULL,
    heartbeat_at character varying(32) NOT NULL,
    ended_at character varying(32),
    kek_id character varying(2048),
    dekctl_version character varying(32) NOT NULL,
    "position" text,
    result text,
    error text
);
CREATE TABLE public.dekctl_tables (
    table_name character varying(255) NOT NULL,
    facts text NOT NULL
);
CREATE TABLE public.dekctl_version_branched (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.dekctl_version_contracted (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.dekctl_version_expanded (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.dekctl_version_legacy (
    version_num character varying(32) NOT NULL
);
CREATE TABLE public.expanded (
    id integer NOT NULL,
    encryption_key bytea,
    wrapped_key bytea,
    wrapped_key_version character varying(10),
    kek_id character varying(255)
);
CREATE TABLE public.legacy (
    id integer NOT NULL,
    encryption_key bytea NOT NULL
);
INSERT INTO public.branched VALUES (1, '\x050c2fbc965ae766bd18c237396c00c27c363d240425e0b6481f53cd430b0ca6', '\x03c77a88355e534d0fb2d4f064e6012403e4dd0d1ad822a1d4b0cb3d3d2bce00dacd027e48ed6a5fbc317b7180731efb0e32c1680b63753f5b684864e6daf4a5fef570885d129ad288e5c3e4f2', 'V3', 'env:fffa5b0c61bf86fb');
INSERT INTO public.branched VALUES (2, '\x866d199f24b103b0e315995d7a267f8e87abea8201ec51b75b079b60970891aa', '\x03c77a88355e534d0fb2d4f064e60124030dd541e667e71f0acbbac37c82a77b04f8e8c7b59bc3f1af9d466b9c3b8b85e38b0a045d626fdfc171bbbc30a45fda3866db63ed0fb43d46f5fe82dd', 'V3', 'env:fffa5b0c61bf86fb');
INSERT INTO public.branched VALUES (3, '\x8cee025d1529a9fbf5fb7a170dd46252c57dc51ad485b76548862218f9738a8a', '\x03c77a88355e534d0fb2d4f064e601240351ea93daf7b9e891b2e67c939b38fd7c818eba8b007a0275c3ca7b87c2682005ae58eba912426a5e913db6d00984bb90041ce1c06d389f38d1b3f87e', 'V3', 'env:fffa5b0c61bf86fb');
INSERT INTO public.contracted VALUES (1, '\x01fffa5b0c61bf86fb9af39e95ecbda7c1f4262200f566477bb6fa1a56712524743f223ff8246980f8f42916ff4e7e9231093e515cd830d28e0af0d040d9cbfda271cc38b5', 'V2', 'env:fffa5b0c61bf86fb');
INSERT INTO public.contracted VALUES (2, '\x01fffa5b0c61bf86fb6dd4733aa0dd05868e5914cef47a3a038736689ecbf6f07b8d6a40dae88b2db7b8c4f0ad423c8da41bb774d4f4df6721fb0e8178dccd741d8f3c256b', 'V2', 'env:fffa5b0c61bf86fb');
INSERT INTO public.contracted VALUES (3, '\x01fffa5b0c61bf86fb0c76f24f1df7504c3f4ff153cc67bb7fe84720abe5dd9091729bcd37b08289487b7f968042285de33b8c249a5e63a82fe50ac3ed12672481b7d56ae9', 'V2', 'env:fffa5b0c61bf86fb');
INSERT INTO public.dekctl_branch_keys VALUES ('c77a88355e534d0fb2d4f064e6012403', 'branched', '\x01fffa5b0c61bf86fbe037baf7f41db8dfd596d9d2abf03c42eaadf2e308ce01297a755dd2eff1d0af6da2fca5287506bfbf2b6aab2c42d52ece36e5cd565a53e1ff390447', 'env:fffa5b0c61bf86fb', '2026-11-27 11:52:18', 10000);
INSERT INTO public.dekctl_runs VALUES ('c176c224-f030-4259-a211-0f2bddcd62bb', 'wrap', 'legacy', 'test', NULL, false, 'finished', 'operator', 'bastion', 21274, 'machine/1', '2026-11-27 11:52:18.392', '2026-11-27 11:52:18.392', '2026-11-27 11:52:18.416', 'env:fffa5b0c61bf86fb', '0.1.0', '3', '{"scanned": 3, "changed": 3, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 0, "kms_calls": {}}', NULL);
INSERT INTO public.dekctl_runs VALUES ('a5b8c83b-d3c0-4634-b0a3-07bb7292f0df', 'wrap', 'expanded', 'test', NULL, false, 'finished', 'operator', 'bastion', 21274, 'machine/1', '2026-11-27 11:52:18.424', '2026-11-27 11:52:18.424', '2026-11-27 11:52:18.475', 'env:fffa5b0c61bf86fb', '0.1.0', '3', '{"scanned": 3, "changed": 3, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 0, "kms_calls": {}}', NULL);
INSERT INTO public.dekctl_runs VALUES ('12c00562-08cd-46ad-a6f1-f891b5316a14', 'verify', 'legacy', 'test', NULL, true, 'finished', 'operator', 'bastion', 21274, 'machine/1', '2026-11-27 11:52:18.667', '2026-11-27 11:52:18.667', '2026-11-27 11:52:18.681', NULL, '0.1.0', '3', '{"scanned": 3, "changed": 0, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 3, "kms_calls": {}}', NULL);
INSERT INTO public.dekctl_runs VALUES ('02efa337-f4fe-4817-b4dc-76dd5b6731a4', 'wrap', 'contracted', 'test', NULL, false, 'finished', 'operator', 'bastion', 21274, 'machine/1', '2026-11-27 11:52:18.481', '2026-11-27 11:52:18.481', '2026-11-27 11:52:18.513', 'env:fffa5b0c61bf86fb', '0.1.0', '3', '{"scanned": 3, "changed": 3, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 0, "kms_calls": {}}', NULL);
INSERT INTO public.dekctl_runs VALUES ('3a7e17ce-851e-41f9-bb33-a830bf202395', 'wrap', 'branched', 'test', NULL, false, 'finished', 'operator', 'bastion', 21274, 'machine/1', '2026-11-27 11:52:18.520', '2026-11-27 11:52:18.520', '2026-11-27 11:52:18.552', 'env:fffa5b0c61bf86fb', '0.1.0', '3', '{"scanned": 3, "changed": 3, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 0, "kms_calls": {}}', NULL);
INSERT INTO public.dekctl_runs VALUES ('c9cabe74-b906-4529-a1e0-3fdd499f6594', 'verify', 'expanded', 'test', NULL, true, 'finished', 'operator', 'bastion', 21274, 'machine/1', '2026-11-27 11:52:18.692', '2026-11-27 11:52:18.692', '2026-11-27 11:52:18.711', NULL, '0.1.0', '3', '{"scanned": 3, "changed": 0, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 3, "kms_calls": {}}', NULL);
INSERT INTO public.dekctl_runs VALUES ('48e1cd26-c088-4f61-8eb5-e4ca18bb81f8', 'verify', 'contracted', 'test', NULL, true, 'finished', 'operator', 'bastion', 21274, 'machine/1', '2026-11-27 11:52:18.722', '2026-11-27 11:52:18.722', '2026-11-27 11:52:18.742', NULL, '0.1.0', '3', '{"scanned": 3, "changed": 0, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 3, "kms_calls": {}}', NULL);
INSERT INTO public.dekctl_runs VALUES ('6b5e7181-2aae-4949-b118-e204aa099099', 'verify', 'branched', 'test', NULL, true, 'finished', 'operator', 'bastion', 21274, 'machine/1', '2026-11-27 11:52:18.763', '2026-11-27 11:52:18.763', '2026-11-27 11:52:18.786', NULL, '0.1.0', '3', '{"scanned": 3, "changed": 0, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 3, "kms_calls": {}}', NULL);
INSERT INTO public.dekctl_runs VALUES ('245d0b7c-4a39-4871-9812-42cfa2858854', 'scrub', 'expanded', 'test', NULL, false, 'finished', 'operator', 'bastion', 21460, 'machine/1', '2026-11-27 11:52:20.021', '2026-11-27 11:52:20.021', '2026-11-27 11:52:20.053', NULL, '0.1.0', '1', '{"scanned": 1, "changed": 1, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 0, "kms_calls": {}}', NULL);
INSERT INTO public.dekctl_runs VALUES ('25a62ce1-aa42-405b-ba29-04f2a76701f5', 'scrub', 'contracted', 'test', NULL, false, 'finished', 'operator', 'bastion', 21507, 'machine/1', '2026-11-27 11:52:21.363', '2026-11-27 11:52:21.363', '2026-11-27 11:52:21.395', NULL, '0.1.0', '3', '{"scanned": 3, "changed": 3, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 0, "kms_calls": {}}', NULL);
INSERT INTO public.dekctl_runs VALUES ('e631b29d-3e49-4c1f-801c-11d9de3b4d95', 'schema contract', 'contracted', 'test', NULL, false, 'finished', 'operator', 'bastion', 21551, 'machine/1', '2026-11-27 11:52:22.951', '2026-11-27 11:52:22.951', '2026-11-27 11:52:23.021', NULL, '0.1.0', NULL, '{"kms_calls": {}}', NULL);
INSERT INTO public.dekctl_runs VALUES ('4fd6f434-5837-44dd-b10d-38b02e3022d0', 'verify', 'legacy', 'test', NULL, true, 'finished', 'operator', 'bastion', 21593, 'machine/1', '2026-11-27 11:52:24.303', '2026-11-27 11:52:24.303', '2026-11-27 11:52:24.318', NULL, '0.1.0', '3', '{"scanned": 3, "changed": 0, "skipped": 0, "moved": 0, "quarantined": 0, "proved": 3, "kms_calls": {}}', NULL);
INSERT INTO public.dekctl_runs VALUES ('aeac0318-b904-4043-b076-bc1abc3737bf', 'schema rollback', 'legacy', 'test', NULL, false, 'finished', 'operator', 'bastion', 21593, 'machine/1', '2026-11-27 11:52:24.328', '2026-11-27 11:52:24.328', '2026-11-27 11:52:24.384', NULL, '0.1.0', NULL, '{"kms_calls": {}}', NULL);
INSERT INTO public.dekctl_tables VALUES ('expanded', '{"added": ["wrapped_key", "wrapped_key_version", "kek_id"], "columns": {"kek_column": "kek_id", "plaintext_column": "encryption_key", "version_column": "wrapped_key_version", "wrapped_column": "wrapped_key"}, "plaintext_nullable": false, "plaintext_type": "BYTEA"}');
INSERT INTO public.dekctl_tables VALUES ('contracted', '{"added": ["wrapped_key", "wrapped_key_version", "kek_id"], "columns": {"kek_column": "kek_id", "plaintext_column": "encryption_key", "version_column": "wrapped_key_version", "wrapped_column": "wrapped_key"}, "plaintext_nullable": false, "plaintext_type": "BYTEA"}');
INSERT INTO public.dekctl_tables VALUES ('branched', '{"added": ["wrapped_key", "wrapped_key_version", "kek_id"], "columns": {"kek_column": "kek_id", "plaintext_column": "encryption_key", "version_column": "wrapped_key_version", "wrapped_column": "wrapped_key"}, "plaintext_nullable": false, "plaintext_type": "BYTEA"}');
INSERT INTO public.dekctl_version_branched VALUES ('0002');
INSERT INTO public.dekctl_version_contracted VALUES ('0003');
INSERT INTO public.dekctl_version_expanded VALUES ('0002');
INSERT INTO public.dekctl_version_legacy VALUES ('0001');
INSERT INTO public.expanded VALUES (2, '\xa70c6ecb3bd75e190f8ef11a8cf3126cc626de32474d29dcd5b733342b334970', '\x01fffa5b0c61bf86fbe4e2445923a897ad8a6b9a78adda78c97239170fe7a211a2ec23ef4aa17a9bd10f14b2cc08b9d987ddfc1a37374b46c3b40eb685a51927333b6d2134', 'V2', 'env:fffa5b0c61bf86fb');
INSERT INTO public.expanded VALUES (3, '\xc857c9c28aca41922d9aee3c5d2043906f5e1118a2138bddbc2958868d426f60', '\x01fffa5b0c61bf86fb1a335374dc779b8c538c619a98eb63820493cc9f859eced9c3f5cf843924a6f05f3c5a6329df472917a261be320d520cbc8bf2ad12d85baa8aa2cc5e', 'V2', 'env:fffa5b0c61bf86fb');
INSERT INTO public.expanded VALUES (1, NULL, '\x01fffa5b0c61bf86fbb295cc5fb22465ba4f6ba7e23ee01620f6d08131cbda05512cc9304e94e9988dde7b03d1645135a8fb9246e754de6e7c83a9ee90280665b0b548edaa', 'V2', 'env:fffa5b0c61bf86fb');
INSERT INTO public.legacy VALUES (1, '\x933d916bd0636365fa329916c96ca3d2eb29c90425af05cedc25f9e0619ed5b2');
INSERT INTO public.legacy VALUES (2, '\x04a24b88759fcc03d1a899c8ab549138d36b8c8f3be996f24ed62a0fc692973e');
INSERT INTO public.legacy VALUES (3, '\x4bb2c7fafd0844cb67c119fc1bcd8790f9665c87776a7f5249ee491fb4d804f2');
ALTER TABLE ONLY public.branched
    ADD CONSTRAINT branched_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.contracted
    ADD CONSTRAINT contracted_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.dekctl_branch_keys
    ADD CONSTRAINT dekctl_branch_keys_pkey PRIMARY KEY (branch_id);
ALTER TABLE ONLY public.dekctl_quarantine
    ADD CONSTRAINT dekctl_quarantine_pkey PRIMARY KEY (table_name, pk_hash);
ALTER TABLE ONLY public.dekctl_runs
    ADD CONSTRAINT dekctl_runs_pkey PRIMARY KEY (run_id);
ALTER TABLE ONLY public.dekctl_tables
    ADD CONSTRAINT dekctl_tables_pkey PRIMARY KEY (table_name);
ALTER TABLE ONLY public.dekctl_version_branched
    ADD CONSTRAINT dekctl_version_branched_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.dekctl_version_contracted
    ADD CONSTRAINT dekctl_version_contracted_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.dekctl_version_expanded
    ADD CONSTRAINT dekctl_version_expanded_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.dekctl_version_legacy
    ADD CONSTRAINT dekctl_version_legacy_pkc PRIMARY KEY (version_num);
ALTER TABLE ONLY public.expanded
    ADD CONSTRAINT expanded_pkey PRIMARY KEY (id);
ALTER TABLE ONLY public.legacy
    ADD CONSTRAINT legacy_pkey PRIMARY KEY (id);
