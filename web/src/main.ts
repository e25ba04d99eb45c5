// Where the page begins: the policy for scripts, the styles, the engine, the app.

import './app/trusted';
import './ui/styles/tokens.css';
import './ui/styles/base.css';
import './ui/styles/prose.css';
import './ui/styles/thread.css';
import { mount } from 'svelte';
import App from './app/App.svelte';
import { openEngine } from './engine/client';

const target = document.getElementById('app');
if (target) mount(App, { target, props: { engine: openEngine() } });
